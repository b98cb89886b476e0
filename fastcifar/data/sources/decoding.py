"""One encoded image to RGB pixels of the storage size, by Pillow.

One decoder for every file of every source, so that the same file always gives the same pixels. For
images of CIFAR's size it is as fast as TensorFlow's decoders, and it knows what they drop or refuse
(alpha, 16 bits, CMYK, palettes).

- Grey, palette, 16-bit (its high byte) and CMYK images become RGB.
- Transparent pixels are composited over white.
- Images that are not square are cropped at the centre to their shorter side, or padded with black
  to their longer one.
- Other sizes than the storage size are resized, bilinear with antialias.
- Of an animation the first frame counts, of a TIFF the first page. EXIF orientation is not applied,
  as in TFDS and Keras.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image

MAX_PIXELS = 8192 * 8192  # 201 MB as RGB; a small file can claim far more

# What may be behind a file's name. A closed list, because Pillow would otherwise also try formats
# that start other programs (EPS) or that are no single raster image.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")

NonSquare = Literal["crop", "pad"]


class UnreadableImage(Exception):
    """The bytes are not an image that can be used; the message says why in a few words."""


def decode(
    encoded: bytes, size: int | None, non_square: NonSquare = "crop"
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image to a square of the storage size.

    Args:
        encoded: a whole JPEG, PNG, GIF, BMP, WebP or TIFF file; the content decides, not the name.
        size: storage size in pixels; None keeps the image as it is.
        non_square: `crop` keeps the square at the centre, `pad` keeps the whole image.

    Returns:
        uint8 [size, size, 3] RGB (or [height, width, 3]), and the file's own (height, width).

    Raises:
        UnreadableImage: if the bytes are empty, no image, damaged, or hold over `MAX_PIXELS`.
    """
    with _open(encoded) as image:
        width, height = image.size
        try:
            image.load()
            return np.asarray(_square(_to_rgb(image), size, non_square)), (height, width)
        except (MemoryError, UnreadableImage):
            raise
        except Exception as error:  # on damaged bytes Pillow's plugins raise nearly anything
            raise UnreadableImage("truncated or damaged") from error


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
    with _open(encoded) as image:
        width, height = image.size
        return height, width


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
    if image.mode == "F":  # float TIFF, whose white may be 1 or 65535
        raise UnreadableImage("floating-point pixels, of no known range")
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip at 255
        high_byte = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high_byte).convert("RGB")
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
