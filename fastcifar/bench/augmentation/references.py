"""Whether an operation does what it is meant to: NumPy and Pillow on a few small images.

A light check, so that no figure is given for a wrong answer; the tests of `fastcifar.augment` are
thorough. Ours and other libraries' functions come in the same way, as something that makes a
function from an operation, so a reference may pin the operation's ranges to one value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from fastcifar.augment import operations as op
from fastcifar.bench.record import OK

# operation -> (uint8 images [B, h, w, 3], float32 labels [B, B]) -> float32 of the same shapes
Apply = Callable[[op.Operation], Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]]
# What is looked at: images, a multiple of every group, and their side, a multiple of 8.
COUNT, SIZE = 16, 32
_SIGMA = 10.0


def sample() -> np.ndarray:
    """Images of different exposure: uint8 [16, 32, 32, 3]."""
    rng = np.random.default_rng(0)
    exposure = np.linspace(0.3, 0.9, COUNT)[:, None, None, None]
    return (rng.integers(20, 256, (COUNT, SIZE, SIZE, 3)) * exposure).astype(np.uint8)


def agrees(operation: op.Operation, apply: Apply) -> str:
    """Tell whether a function made for `operation` does it: `ok` or `failed: …`.

    Args:
        operation: which one.
        apply: makes the function, for images of 32 x 32, from an operation of the same class.
    """
    check = _CHECKS.get(type(operation))
    return OK if check is None else check(operation, apply, sample())


def _run(apply: Apply, operation: op.Operation, images: np.ndarray) -> tuple[np.ndarray, ...]:
    made, labels = apply(operation)(images, np.eye(len(images), dtype=np.float32))
    return np.asarray(made, np.float32), np.asarray(labels, np.float32)


def _close(received: np.ndarray, expected: np.ndarray, atol: float) -> str:
    farthest = float(np.abs(received - expected.astype(np.float32)).max())
    return OK if farthest <= atol else f"failed: {farthest:.3g} off the reference on 0..255"


def _pinned(
    operation: op.Operation,
    expected: Callable[[np.ndarray], np.ndarray],
    atol: float,
    border: int = 0,
) -> Callable[[op.Operation, Apply, np.ndarray], str]:
    """A check by one known case, leaving out the outermost `border` pixels."""

    def check(_: op.Operation, apply: Apply, images: np.ndarray) -> str:
        inside = np.s_[:, border : images.shape[1] - border, border : images.shape[2] - border]
        received, _labels = _run(apply, operation, images)
        return _close(received[inside], expected(images)[inside], atol)

    return check


def _pillow(function: Callable[[Image.Image], Image.Image]) -> Callable[[np.ndarray], np.ndarray]:
    def each(images: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(function(Image.fromarray(image))) for image in images])

    return each


def _enhancer(kind: type, enhance: type[op.Operation]) -> Callable[..., str]:
    factor = 0.7
    # Pillow rounds the degenerate image, and then the result, to whole numbers.
    expected = _pillow(lambda image: kind(image).enhance(factor))
    return _pinned(enhance(factor=(factor, factor)), expected, 1.01 + 0.51 * (1 - factor))  # type: ignore[call-arg]


def _zoomed(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]
    y, x = height // 4, width // 4
    centre = images[:, y : height - y, x : width - x]
    return np.asarray(tf.image.resize(centre, [height, width]))


def _slanted(images: np.ndarray) -> np.ndarray:
    """Rows slid by twice their distance from the centre, a whole number; the upper to the right."""
    height, width = images.shape[1:3]
    slanted = np.zeros_like(images)
    for row in range(height):
        right = height - 1 - 2 * row
        to, source = (max(0, right), max(0, -right))
        length = max(0, width - abs(right))
        slanted[:, row, to : to + length] = images[:, row, source : source + length]
    return slanted


def _shifted(images: np.ndarray) -> np.ndarray:
    """Down by a quarter, left by an eighth."""
    height, width = images.shape[1:3]
    down, left = height // 4, width // 8
    shifted = np.zeros_like(images)
    shifted[:, down:, : width - left] = images[:, : height - down, left:]
    return shifted


def _translated(_: op.Operation, apply: Apply, images: np.ndarray) -> str:
    height, width = images.shape[1:3]
    down, right = height // 4 / height, -(width // 8) / width
    received, _labels = _run(apply, op.Translate((down, down), (right, right)), images)
    return _close(received, _shifted(images), 0.05)


def _mirrored(operation: op.Operation, apply: Apply, images: np.ndarray) -> str:
    received, _ = _run(apply, operation, images)
    mirror = images[:, :, ::-1]
    same = np.abs(received - images).max(axis=(1, 2, 3)) < 1e-3
    turned = np.abs(received - mirror).max(axis=(1, 2, 3)) < 1e-3
    if not (same | turned).all():
        return "failed: an image is neither itself nor its mirror image"
    return OK if same.any() and turned.any() else "failed: all images are treated alike"


def _moved(operation: Any, apply: Apply, images: np.ndarray) -> str:
    received, _ = _run(apply, operation, images)
    return judge_standard(images, received, operation.padding, side=0)


def judge_standard(images: np.ndarray, received: np.ndarray, padding: int, side: int) -> str:
    """Tell whether images are flipped or not, shifted within a black border, and covered.

    Args:
        images, received: [B, h, w, 3] before and after.
        padding: of the border, in pixels.
        side: of the covered square, in pixels; 0 for none.
    """
    height, width = images.shape[1:3]
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    offsets = set()
    best = np.full(len(images), height * width)
    for mirrored in (images, images[:, :, ::-1]):
        padded = np.pad(mirrored, around).astype(np.float32)
        for y in range(2 * padding + 1):
            for x in range(2 * padding + 1):
                window = padded[:, y : y + height, x : x + width]
                other = np.abs(received - window).max(axis=3) > 0.01
                for index in np.flatnonzero(_inside_a_square(other, side)):
                    best[index] = min(best[index], other[index].sum())
                    offsets.add((y, x))
    if (best > side**2).any():
        return "failed: an image is no window of the padded one, mirrored or not, with one square"
    return OK if len(offsets) > 1 or not padding else "failed: all images are cropped alike"


def _inside_a_square(covered: np.ndarray, side: int) -> np.ndarray:
    """Whether the true pixels of each mask [B, h, w] fit into a square of `side` pixels."""
    return np.array(
        [
            _extent(mask.any(axis=1)) <= side and _extent(mask.any(axis=0)) <= side
            for mask in covered
        ]
    )


def _extent(line: np.ndarray) -> int:
    at = np.flatnonzero(line)
    return int(at[-1] - at[0] + 1) if len(at) else 0


def _covered(operation: Any, apply: Apply, images: np.ndarray) -> str:
    received, _ = _run(apply, operation, images)
    side = max(images.shape[1:3])
    if isinstance(operation, op.Cutout):
        side = round(operation.side * min(images.shape[1:3]))
    covered = np.abs(received - images).max(axis=3) > 0.01
    if not _inside_a_square(covered, side).all():
        return f"failed: more than a square of {side} pixels is covered"
    if not covered.any():
        return "failed: nothing is covered"
    for image, mask in zip(received, covered, strict=True):
        if mask.any() and np.ptp(image[mask], axis=0).max() > 0.01:
            return "failed: what is covered is not of one colour"
    return OK


def _hue(_: op.Operation, apply: Apply, images: np.ndarray) -> str:
    received, _labels = _run(apply, op.Hue((0.1, 0.1)), images)
    # Layers draw the sign themselves, so each image may be turned either way.
    either = [
        np.abs(received - 255 * np.asarray(tf.image.adjust_hue(images / 255, t))).max((1, 2, 3))
        for t in (0.1, -0.1)
    ]
    farthest = float(np.minimum(*either).max())
    return OK if farthest <= 0.05 else f"failed: {farthest:.3g} off the reference on 0..255"


def _noisy(_: op.Operation, apply: Apply, images: np.ndarray) -> str:
    grey = np.full_like(images, 128)
    received, _labels = _run(apply, op.GaussianNoise((_SIGMA, _SIGMA)), grey)
    mean, deviation = float(received.mean()), float(received.std())
    if abs(mean - 128) < 0.5 and abs(deviation / _SIGMA - 1) < 0.05:
        return OK
    return f"failed: grey 128 has become {mean:.4g} ± {deviation:.3g}, not ± {_SIGMA:g}"


def _averaged(operation: op.Operation, apply: Apply, images: np.ndarray) -> str:
    received, labels = _run(apply, operation, images)
    # Every image has a class of its own, so its label tells what it is made of.
    return _close(received, np.einsum("bc,chwd->bhwd", labels, images.astype(np.float32)), 0.1)


def _pasted(operation: op.Operation, apply: Apply, images: np.ndarray) -> str:
    received, labels = _run(apply, operation, images)
    own = np.diag(labels)
    partner = np.where(np.eye(len(labels), dtype=bool), -1, labels).argmax(axis=1)
    kept = np.abs(received - images).max(axis=3) < 0.01
    theirs = np.abs(received - images[partner]).max(axis=3) < 0.01
    if not (kept | theirs)[own < 1].all() or not kept[own == 1].all():
        return "failed: a pixel is neither the image's nor its partner's"
    farthest = float(np.abs(kept.mean(axis=(1, 2)) - own).max())
    return OK if farthest < 0.02 else f"failed: labels are {farthest:.3g} off the pasted share"


def _automatic(operation: Any, apply: Apply, images: np.ndarray) -> str:
    """At strength 0 all but autocontrast, equalise and solarise leave an image alone."""
    nothing = {"shear": 0.0, "degrees": 0.0, "blend": 0.0, "lost_bits": 0}
    layered = isinstance(operation, op.RandAugment)
    more = {"magnitude": 0, "layers": 1} if layered else {"translate_pixels": 0.0}
    received, _ = _run(apply, type(operation)(**nothing, **more), images)
    pixels = (np.abs(received - images) < 1.01) | (np.abs(received - (255 - images)) < 1.01)
    right = pixels.all(axis=(1, 2, 3))
    for function in (ImageOps.autocontrast, ImageOps.equalize):
        right |= np.abs(received - _pillow(function)(images)).max(axis=(1, 2, 3)) < 1.01
    return OK if right.all() else "failed: operations without strength change an image"


_Check = Callable[[Any, Apply, np.ndarray], str]
_CHECKS: dict[type[op.Operation], _Check] = {
    op.Flip: _mirrored,
    op.AlternatingFlip: _mirrored,
    op.PadCrop: _moved,
    op.RandomResizedCrop: _pinned(
        op.RandomResizedCrop((1.0, 1.0), (1.0, 1.0)), lambda images: images, 0.05
    ),
    op.Translate: _translated,
    op.Zoom: _pinned(op.Zoom((2.0, 2.0)), _zoomed, 0.05, border=2),
    op.Rotate: _pinned(op.Rotate((90.0, 90.0)), lambda images: np.rot90(images, axes=(1, 2)), 0.05),
    op.Shear: _pinned(op.Shear((2.0, 2.0), (0.0, 0.0)), _slanted, 0.05),
    op.Brightness: _enhancer(ImageEnhance.Brightness, op.Brightness),
    op.Contrast: _enhancer(ImageEnhance.Contrast, op.Contrast),
    op.Saturation: _enhancer(ImageEnhance.Color, op.Saturation),
    op.Sharpness: _enhancer(ImageEnhance.Sharpness, op.Sharpness),
    op.Hue: _hue,
    op.Greyscale: _pinned(
        op.Greyscale(probability=1.0), _pillow(lambda i: i.convert("L").convert("RGB")), 0.53
    ),
    op.Invert: _pinned(op.Invert(probability=1.0), lambda images: 255 - images, 0),
    op.Equalise: _pinned(op.Equalise(probability=1.0), _pillow(ImageOps.equalize), 0),
    op.Autocontrast: _pinned(
        op.Autocontrast(probability=1.0), _pillow(ImageOps.autocontrast), 1.01
    ),
    op.Posterise: _pinned(op.Posterise((3, 3)), _pillow(lambda i: ImageOps.posterize(i, 3)), 0),
    op.Solarise: _pinned(
        op.Solarise((100, 100)), _pillow(lambda i: ImageOps.solarize(i, 100)), 1e-3
    ),
    op.GaussianNoise: _noisy,
    op.Cutout: _covered,
    op.RandomErasing: _covered,
    op.MixUp: _averaged,
    op.CutMix: _pasted,
    op.TrivialAugment: _automatic,
    op.RandAugment: _automatic,
}
