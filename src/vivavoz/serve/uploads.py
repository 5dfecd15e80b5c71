"""Pictures from strangers, looked at before anything is decoded."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from vivavoz.errors import ImageError

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP")


def check_picture(data: bytes, number: int, max_megapixels: float) -> None:
    """Raise `ImageError` unless the header of picture `number` promises a common format and not too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
    except Exception as error:  # Pillow's parsers raise nearly anything when a header is damaged
        raise ImageError(f"picture {number} is not a picture; expected JPEG, PNG, WebP, AVIF or BMP") from error
    if width * height > max_megapixels * 1e6:
        raise ImageError(
            f"picture {number} is {width}x{height} pixels, expected at most {max_megapixels:g} megapixels: scale it down first"
        )
