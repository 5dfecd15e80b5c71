"""Picture files to and from uint8 RGB arrays `(H, W, 3)`, with bounds that are checked before anything is decoded."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from vivavoz.errors import ImageError
from vivavoz.media.output import whole_file, writing

Pixels = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
"""Most pixels a picture may have."""

MAX_SIDE_PX = 16_384
"""Longest side a picture may have."""

MIN_SIDE_PX = 64
"""Shortest side a picture may have."""

BACKGROUND = 128
"""Grey level, in all three channels, that shows through where a picture is transparent."""

WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

# Pillow knows more, but some of them (EPS) run other programs, and none of them is a photograph.
_READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
_READABLE_NAMES = "JPEG, PNG, WebP, AVIF, BMP, TIFF, GIF, PPM or JPEG 2000"


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """Read a picture file as an `(H, W, 3)` uint8 sRGB array, turned upright as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit pictures become 8-bit RGB; an embedded colour profile is honoured; transparency is laid
    over mid-grey (128, 128, 128); of an animation or a multi-page file the first picture is taken.

    Raises:
        ImageError: no such file, no picture, a damaged one, a side below 64 or above 16384 pixels, or more than
            64 megapixels. The size is read from the header, so an oversized picture costs no memory.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path} is a directory; give the name of a picture file")
    if not path.exists():
        raise ImageError(f"no such picture: {path}; check the path")
    if not path.is_file():
        raise ImageError(f"{path} is not a file; give the name of a picture file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, and sizes that are refused here anyway
            with Image.open(path, formats=_READABLE_FORMATS) as image:
                _check_size(path, image.width, image.height)
                image.load()
                return _rgb(path, image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        what = "an empty file" if path.stat().st_size == 0 else "not a picture"
        raise ImageError(f"{path} is {what}; expected {_READABLE_NAMES}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels; scale it down first") from error
    except PermissionError as error:
        raise ImageError(f"no permission to read {path}; change its permissions or give another picture") from error
    except Exception as error:  # Pillow's decoders raise nearly anything when a file is damaged
        raise ImageError(f"{path} is damaged or cut short ({_one_line(error)}); give an intact picture") from error


def write_image(path: str | os.PathLike[str], image: Pixels) -> None:
    """Write an `(H, W, 3)` uint8 RGB array as PNG, JPEG, WebP, BMP or TIFF, by the path's suffix.

    Raises:
        OutputError: the path cannot be written or has another suffix. A file that was there stays as it was.
    """
    with whole_file(path, WRITABLE_SUFFIXES) as temporary, writing(path):
        file_format = Image.registered_extensions()[Path(path).suffix.lower()]
        Image.fromarray(image, "RGB").save(temporary, format=file_format, quality=95)


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(f"{path} is {width}x{height} pixels; expected at least {MIN_SIDE_PX} a side, better 512")
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise ImageError(
            f"{path} is {width}x{height} pixels; expected at most {MAX_SIDE_PX} a side and "
            f"{MAX_PIXELS // 10**6} megapixels: scale it down first"
        )


def _rgb(path: Path, image: Image.Image) -> Pixels:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, grey
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ImageError(f"{path} holds floating-point pixels, whose white is unknown; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        image = Image.alpha_composite(backdrop, image).convert("RGB")
    if isinstance(profile, bytes) and image.mode in ("RGB", "CMYK"):
        image = _to_srgb(image, profile)
    return np.array(image.convert("RGB"), np.uint8)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB; as it is when its profile is damaged or does not fit its channels."""
    try:
        converted = ImageCms.profileToProfile(image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
