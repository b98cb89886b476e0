"""Pixels of more than 8 bits a value: which range is in use, and their 8 bits.

Values in a file of 16 or 32 bits rarely use all of them: cameras and scanners deliver 12, and an
image of 8 bits is often saved in 16. The range is the smallest of 8, 10, 12, 14 and 16 bits that
holds them, and the upper 8 bits of it are kept, as TensorFlow and Pillow keep those of 16. It is
one for a whole set, so that its images stay as bright beside each other as they are.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

BITS = (8, 10, 12, 14, 16)

# How Pillow names the byte order of 16-bit channels, and the order that reads their other byte. It
# keeps the high one of each; N is the order of the machine.
_OTHER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B"}
_MIN_IS_WHITE, _PHOTOMETRIC = 0, 262  # of TIFF


class UnknownRange(Exception):
    """Values that no image of 8 to 16 bits holds; the message says which."""


def bits_in_use(peak: int) -> int:
    """Return the bits of the smallest usual range that holds values up to `peak`.

    >>> bits_in_use(200), bits_in_use(4000), bits_in_use(65535)
    (8, 12, 16)
    """
    return next(bits for bits in BITS if peak < 1 << bits)


def low_bytes(image: Image.Image) -> Image.Image | None:
    """Make an opened image, not loaded yet, read the low bytes of its 16-bit channels.

    Returns:
        The image; None if it has no such channels, or Pillow gives them whole (grey ones).
    """
    tiles = []
    for tile in getattr(image, "tile", []):
        name = tile.args if isinstance(tile.args, str) else tile.args[0]
        if image.mode.startswith("I") or not isinstance(name, str) or name[-4:] not in _OTHER_BYTE:
            return None
        # Grey with alpha: their 4 bytes, read as 4 channels.
        other = "RGBA" if name == "LA;16B" else name[:-4] + _OTHER_BYTE[name[-4:]]
        args = other if isinstance(tile.args, str) else (other, *tile.args[1:])
        tiles.append(tile._replace(args=args))
    if not tiles:
        return None
    grey = tiles[0].args == "RGBA"
    image.tile = tiles  # type: ignore[attr-defined]
    image.info["grey16"] = grey
    return image


def values_of(image: Image.Image, low: Image.Image | None) -> np.ndarray | None:
    """Return the values of a loaded image: int64 [H, W] or [H, W, C]; None if they have 8 bits.

    Args:
        image: the image.
        low: the same, read by `low_bytes`, or None.

    Raises:
        UnknownRange: if values are negative, over 16 bits, or fractions.
    """
    if image.mode == "F":  # float TIFF, whose white may be 1 or 65535
        raise UnknownRange("floating-point pixels, of no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0:
            raise UnknownRange(f"values down to {values.min()}, of no known range")
        if values.max() >= 1 << 16:
            raise UnknownRange(f"values up to {values.max()}, which need more than 16 bits")
        tags = getattr(image, "tag_v2", {})
        return 65535 - values if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE else values
    if low is None:
        return None
    high, lower = (np.asarray(each).astype(np.int64) for each in (image, low))
    if low.info["grey16"]:
        return lower[..., 0::2] << 8 | lower[..., 1::2]
    return high << 8 | lower


def peak_of(values: np.ndarray) -> int:
    """Return the largest value of the colours, without alpha."""
    colours = values[..., :-1] if values.ndim == 3 and values.shape[2] in (2, 4) else values
    return int(colours.max())


def to_8_bits(values: np.ndarray, bits: int, transparent: object = None) -> Image.Image:
    """Return the upper 8 of `bits` bits as an image, larger values as white.

    Args:
        values: int64 [H, W] or [H, W, C].
        bits: of the range in use.
        transparent: the value, or tuple of values, of pixels that are transparent.
    """
    eight = np.minimum(values >> (bits - 8), 255).astype(np.uint8)
    image = Image.fromarray(eight)
    if isinstance(transparent, int | tuple):
        same = values == np.array(transparent)
        clear = same.all(axis=-1) if values.ndim == 3 else same
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    return image
