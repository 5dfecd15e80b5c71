import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from vivavoz.errors import ImageError, OutputError
from vivavoz.media.image import BACKGROUND, read_image, write_image

HEIGHT, WIDTH = 70, 90


def picture():
    """A smooth picture whose corners differ, so that every turn of it is told apart."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([rows * 3, columns * 2, 255 - rows - columns], -1).clip(0, 255).astype(np.uint8)


def save(path, mode="RGB", **options):
    Image.fromarray(picture()).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.ppm", 0), ("a.jpg", 8), ("a.webp", 16), ("A.JPEG", 8), ("a.gif", 40)],
)
def test_formats(tmp_path, name, tolerance):
    image = read_image(save(tmp_path / name))
    assert image.dtype == np.uint8
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.flags.writeable
    assert np.abs(image.astype(int) - picture()).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Stored as a camera would store it, turned; read upright."""
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, 3),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](picture()))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), picture())


def test_alpha_shows_the_background(tmp_path):
    rgba = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    rgba[:, 10:20, 3] = 255
    rgba[:, 20:30, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png").astype(int)
    assert (image[:, :10] == BACKGROUND).all()
    assert np.array_equal(image[:, 10:20], picture()[:, 10:20])
    assert np.abs(image[:, 20:30] - (picture()[:, 20:30].astype(int) + BACKGROUND) / 2).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "CMYK", "RGBA"])
def test_modes(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    image = read_image(save(tmp_path / f"a.{suffix}", mode))
    expected = np.asarray(Image.fromarray(picture()).convert(mode).convert("RGB"))
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.fromarray(picture()).quantize(8)
    index = int(np.asarray(image)[0, 0])
    image.save(tmp_path / "a.png", transparency=index)
    assert (read_image(tmp_path / "a.png")[np.asarray(image) == index] == BACKGROUND).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey(tmp_path, suffix):
    wide = np.linspace(0, 65_535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + wide.astype(">u2").tobytes())
    else:
        Image.fromarray(wide).save(path)
    image = read_image(path)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image[..., 0] - wide / 257).max() <= 0.51


def test_16_bit_grey_is_set_upright(tmp_path):
    wide = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 10).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(wide))).save(tmp_path / "a.png", exif=exif)
    assert np.abs(read_image(tmp_path / "a.png")[..., 0] - wide / 257).max() <= 0.51


def exchange_red_and_blue(profile):
    """The ICC profile with two entries of its table of tags renamed: red's primary is blue's and the reverse."""
    return profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)


def test_colour_profile_is_honoured(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "RGBA"):
        same = read_image(save(tmp_path / "a.png", mode, icc_profile=profile))
        assert np.abs(same.astype(int) - picture()).max() <= 1
        exchanged = read_image(save(tmp_path / "b.png", mode, icc_profile=exchange_red_and_blue(profile)))
        assert np.abs(exchanged.astype(int) - picture()[..., ::-1]).max() <= 2


def test_unusable_colour_profiles_are_ignored(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"no profile" * 20, lab):
        assert np.array_equal(read_image(save(tmp_path / "a.png", icc_profile=profile)), picture())


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert np.abs(read_image(tmp_path / name).astype(int) - (255, 0, 0)).max() <= 2


def png_header(width, height):
    """The start of a PNG that claims to be of this size."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 20_000), (10_000, 10_000), (8100, 8000), (16_385, 100)])
def test_oversized_pictures_are_refused_before_decoding(tmp_path, monkeypatch, size):
    monkeypatch.delattr(ImageFile.ImageFile, "load")
    (tmp_path / "a.png").write_bytes(png_header(*size))
    with pytest.raises(ImageError, match="megapixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 63)])
def test_tiny_pictures(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]}.*64"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_truncated_pictures(tmp_path, name, share):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=name) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"Dear diary,\n" * 20, "not a picture"),
        (None, "no such"),
        (b"\xff\xd8\xff", "picture"),
    ],
)
def test_no_picture_at_all(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / "a.jpg")
    assert "a.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directory_and_special_files(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a file"):
        read_image(tmp_path / "pipe.jpg")


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="floating-point"):
        read_image(tmp_path / "a.tif")


def test_damaged_metadata_does_not_escape(tmp_path):
    """Bytes flipped anywhere give a picture or an ImageError, never another exception."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(buffer, "JPEG", exif=exif)
    for trial in range(60):
        data = bytearray(buffer.getvalue())
        for place in rng.integers(2, 400, 6):
            data[place] = rng.integers(256)
        (tmp_path / f"{trial}.jpg").write_bytes(data)
        try:
            read_image(tmp_path / f"{trial}.jpg")
        except ImageError:
            continue


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.jpg", "a.webp"])
def test_written_pictures_read_back(tmp_path, name):
    write_image(tmp_path / name, picture())
    tolerance = 0 if name in ("a.png", "a.bmp", "a.tiff") else 10
    assert np.abs(read_image(tmp_path / name).astype(int) - picture()).max() <= tolerance
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("name", "message"), [("a.xyz", "suffix"), ("no/a.png", "no directory"), ("dir.png", "directory")])
def test_unwritable_targets(tmp_path, name, message):
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(OutputError, match=message):
        write_image(tmp_path / name, picture())
