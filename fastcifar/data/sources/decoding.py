"""One encoded image to RGB pixels of the storage size, by Pillow.

One decoder for every file of every source, so that the same file always gives the same pixels. For
images of CIFAR's size it is as fast as TensorFlow's decoders, and it knows what they drop or refuse
(alpha, 16 bits, CMYK, palettes).

- Grey, palette and CMYK images become RGB; of more than 8 bits a value the upper 8 in use are kept
  (`deep_values`).
- Metadata that cannot be read does not matter (`png_chunks`).
- Transparent pixels are composited over white.
- Images that are not square are cropped at the centre to their shorter side, or padded with black
  to their longer one.
- Other sizes than the storage size are resized, bilinear with antialias.
- Of an animation the first frame counts, of a TIFF the first page. EXIF orientation is not applied,
  as in TFDS and Keras; only Pillow applies that of TIFF.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image

from fastcifar.data.sources.deep_values import (
    UnknownRange,
    bits_in_use,
    low_bytes,
    peak_of,
    to_8_bits,
    values_of,
)
from fastcifar.data.sources.png_chunks import SIGNATURE, WrongChecksum, without_metadata

MAX_PIXELS = 8192 * 8192  # 201 MB as RGB; a small file can claim far more

# What may be behind a file's name. A closed list, because Pillow would otherwise also try formats
# that start other programs (EPS) or that are no single raster image.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")

# What Pillow converts to RGB; of others, such as LAB, it does not know the colours.
_MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]

_T = TypeVar("_T")
NonSquare = Literal["crop", "pad"]


class UnreadableImage(Exception):
    """The bytes are not an image that can be used; the message says why in a few words."""


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 [size, size, 3] RGB (or [height, width, 3]).
        shape: the file's own (height, width).
        peak: the largest value in a file of more than 8 bits a value; 0 for others.
        turned: whether its EXIF says that it is to be shown turned or mirrored.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    peak: int
    turned: bool


def decode(
    encoded: bytes, size: int | None, non_square: NonSquare = "crop"
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image by itself: `decode_in_range` by the range that its own values use.

    Returns:
        uint8 [size, size, 3] RGB (or [height, width, 3]), and the file's own (height, width).
    """
    decoded = decode_in_range(encoded, size, non_square, None)
    return decoded.pixels, decoded.shape


def decode_in_range(
    encoded: bytes, size: int | None, non_square: NonSquare, bits: int | None
) -> Decoded:
    """Decode one image to a square of the storage size.

    Args:
        encoded: a whole JPEG, PNG, GIF, BMP, WebP or TIFF file; the content decides, not the name.
        size: storage size in pixels; None keeps the image as it is.
        non_square: `crop` keeps the square at the centre, `pad` keeps the whole image.
        bits: the range in use where the file has more than 8 bits a value; None for that of its
            own values.

    Raises:
        UnreadableImage: if the bytes are empty, no image, damaged, of no known range, or hold over
            `MAX_PIXELS`.
    """
    return _without_odd_metadata(lambda each: _decode(each, size, non_square, bits), encoded)


def _decode(encoded: bytes, size: int | None, non_square: NonSquare, bits: int | None) -> Decoded:
    with _open(encoded) as image:
        width, height = image.size
        try:
            with contextlib.ExitStack() as opened:
                low = low_bytes(image)
                if low is not None:
                    low.load()
                    image = opened.enter_context(_open(encoded))
                image.load()
                turned = _is_turned(image)
                values = values_of(image, low)
            peak = 0
            if values is not None:
                peak = peak_of(values)
                clear = image.info.get("transparency")
                image = to_8_bits(values, bits or bits_in_use(peak), clear)
            pixels = np.asarray(_square(_to_rgb(image), size, non_square))
            return Decoded(pixels, (height, width), peak, turned)
        except UnknownRange as error:
            raise UnreadableImage(str(error)) from error
        except (MemoryError, UnreadableImage):
            raise
        except Exception as error:  # on damaged bytes Pillow's plugins raise nearly anything
            raise UnreadableImage("truncated or damaged") from error


def _is_turned(image: Image.Image) -> bool:
    if "exif" not in image.info:
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # damaged metadata, which say nothing
        return False


def _without_odd_metadata(read: Callable[[bytes], _T], encoded: bytes) -> _T:
    """Read an image; a PNG that fails once more, without what its pixels do not depend on."""
    try:
        return read(encoded)
    except UnreadableImage:
        if not encoded.startswith(SIGNATURE):
            raise
        try:
            plain = without_metadata(encoded)
        except WrongChecksum as error:
            raise UnreadableImage(f"damaged: {error}") from error
        if plain == encoded:
            raise
        return read(plain)


def fit(pixels: np.ndarray, size: int, non_square: NonSquare = "crop") -> np.ndarray:
    """Bring an image that is decoded already to the storage size.

    Args:
        pixels: uint8 [height, width, 3], or [height, width] for grey.
        size: storage size in pixels.
        non_square: as for `decode`.

    Returns:
        uint8 [size, size, 3].
    """
    if pixels.shape == (size, size, 3):
        return pixels
    return np.asarray(_square(Image.fromarray(pixels).convert("RGB"), size, non_square))


def measure(encoded: bytes) -> tuple[int, int]:
    """Return an image's (height, width) from its header alone.

    Raises:
        UnreadableImage: as `decode`, but damage behind the header goes unseen.
    """

    def read(each: bytes) -> tuple[int, int]:
        with _open(each) as image:
            width, height = image.size
            return height, width

    return _without_odd_metadata(read, encoded)


def _open(encoded: bytes) -> Image.Image:
    """Read the header; no pixel is decoded before the bound on their number is checked."""
    if not encoded:
        raise UnreadableImage("an empty file")
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"more than {MAX_PIXELS} pixels") from error
    except Exception as error:
        raise UnreadableImage("not an image") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(f"more than {MAX_PIXELS} pixels")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode not in _MODES:
        raise UnreadableImage(f"colours of the mode {image.mode}")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, size: int | None, non_square: NonSquare) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    if non_square == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    longer = max(image.size)
    width, height = (max(1, round(side * size / longer)) for side in image.size)
    square = Image.new("RGB", (size, size))
    inner = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(inner, ((size - width) // 2, (size - height) // 2))
    return square
