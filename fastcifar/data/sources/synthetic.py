"""Procedurally drawn shapes: a data set that needs neither files nor a network.

Every image shows one shape on a textured background. The shape's kind is its class; position, size,
rotation, colours, background gradient, texture and noise are random and independent of the class,
so that neither colour nor position nor brightness tells anything. Shapes are signed-distance
functions (I. Quilez, "2D distance functions"), evaluated for whole blocks of images at once, with
edges one pixel soft.

Pure NumPy. On one machine the same arguments give the same bytes; another processor's `sin` and
`cos` may differ in the last bit, and with it a few pixels by one level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastcifar.data.prepared import Key
from fastcifar.data.sources.decode_pool import Chunk
from fastcifar.data.sources.delivery import deliver
from fastcifar.data.sources.ingest import EncodedSet, EncodedSplit, ReadOptions
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError

DEFAULT_COUNT = 10_000
DEFAULT_SIZE = 32
MIN_SIZE = 8  # below it a cross and a star are the same few pixels

# Block of images drawn at once, in pixels: its float32 temporaries stay near 100 MB.
_BLOCK_PIXELS = 1 << 20
_TRAIN, _TEST = 0, 1  # keys of the two random streams
_DRAWING = 1  # raised with every change of what is drawn: images kept on disk are then drawn anew


def load_synthetic(
    *,
    count: int = DEFAULT_COUNT,
    classes: int = 10,
    size: int = DEFAULT_SIZE,
    options: ReadOptions | None = None,
) -> Splits:
    """Draw `count` training images and a fifth as many test images.

    Args:
        count: training images, at least 5 and at least `classes`; the test split has
            `max(count // 5, classes)`.
        classes: 2 to `MAX_CLASSES`. Up to ten, one shape each; beyond, the same ten shapes filled
            with stripes, checks and dots.
        size: height and width in pixels, at least `MIN_SIZE`.
        options: the seed, non-negative (train and test are drawn from separate random streams), the
            memory budget beyond which images are drawn onto disk, and the progress function.

    Returns:
        Splits of uint8 [N, size, size, 3] images, the classes as equal in number as can be and in
        random order.

    Raises:
        SourceError: if `count`, `classes` or `size` is out of range, or the disk refuses.
    """
    options = options or ReadOptions()
    for name, value, low, high in (
        ("classes", classes, 2, MAX_CLASSES),
        ("size", size, MIN_SIZE, 1024),
        ("count", count, max(5, classes), 100_000_000),
    ):
        if not low <= value <= high:
            raise SourceError(
                f"--synthetic-{name} must lie between {low} and {high}. Received: {value}"
            )
    parts = {
        "train": _Drawn(count, classes, size, (options.seed, _TRAIN)),
        "test": _Drawn(max(count // 5, classes), classes, size, (options.seed, _TEST)),
    }
    data = EncodedSet(
        splits={name: EncodedSplit(part.count, part.chunks, str) for name, part in parts.items()},
        class_names=CLASS_NAMES[:classes],
        key=Key(
            origin="synthetic",
            options={
                "drawing": _DRAWING,
                "count": count,
                "classes": classes,
                "size": size,
                "seed": options.seed,
            },
        ),
        verb="drawing",
    )
    return deliver(data, dataclasses.replace(options, storage_size=size))


@dataclass(frozen=True)
class _Drawn:
    """One split, drawn in blocks: the images depend on nothing but these four."""

    count: int
    classes: int
    size: int
    key: tuple[int, int]  # of the random stream

    def chunks(self) -> Iterator[Chunk]:
        rng = np.random.default_rng(self.key)
        labels = rng.permutation(np.arange(self.count, dtype=np.int64) % self.classes)
        block = max(1, _BLOCK_PIXELS // self.size**2)
        for start in range(0, self.count, block):
            part = labels[start : start + block]
            yield part, list(_draw_block(part, self.size, rng))


def _draw_block(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one image for each of `labels` (int64 [n]): uint8 [n, size, size, 3]."""
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *shape)).astype(np.float32)

    # Coordinates of the picture run from -1 to 1; `radius` is the shape's half extent in them. The
    # shape's centre stays where all of it, whatever its rotation, is inside the picture.
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    radius = uniform(0.45, 0.8, 1, 1)
    centre_x, centre_y = ((1.0 - radius) * uniform(-1.0, 1.0, 1, 1) for _ in range(2))
    angle = uniform(0.0, 2.0 * np.pi, 1, 1)
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    dx, dy = axis[None, None, :] - centre_x, axis[None, :, None] - centre_y
    x, y = cos * dx + sin * dy, cos * dy - sin * dx  # the shape's own coordinates

    fill = np.zeros((n, size, size), dtype=np.float32)
    distance = np.empty((n, size, size), dtype=np.float32)
    for label in np.unique(labels):
        pattern, kind = divmod(int(label), len(_SHAPES))
        rows = labels == label
        distance[rows] = _SHAPES[kind][1](x[rows], y[rows])
        if pattern:
            fill[rows] = _PATTERNS[pattern][1](x[rows], y[rows])
    coverage = np.clip(0.5 - distance * (radius * (size / 2)), 0.0, 1.0)

    background, colour = _colours(uniform)
    picture = background[:, None, None, :] + _texture(axis, uniform)[..., None]
    picture += uniform(-0.15, 0.15, 1, 1, 3) * _ramp(axis, uniform)[..., None]
    # The second colour of a pattern is halfway to the background.
    ink = colour[:, None, None, :] + (background - colour)[:, None, None, :] * (
        0.6 * fill[..., None]
    )
    picture += coverage[..., None] * (ink - picture)
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    picture += uniform(0.01, 0.05, 1, 1, 1) * noise
    return np.clip(picture * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)


def _colours(uniform: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Background and shape colours, float32 [n, 3], 0..1; the shape is the brighter everywhere.

    With colours drawn freely a network spends most of its steps on learning to see a shape at all,
    whatever its colour, before it tells one kind from another.
    """
    background = uniform(0.0, 0.5, 3)
    return background, background + uniform(0.2, 0.5, 3)


def _ramp(axis: np.ndarray, uniform: Callable[..., np.ndarray]) -> np.ndarray:
    """A linear gradient in a random direction: float32 [n, size, size], -1.5 to 1.5."""
    angle = uniform(0.0, 2.0 * np.pi, 1, 1)
    return np.cos(angle) * axis[None, None, :] + np.sin(angle) * axis[None, :, None]


def _texture(axis: np.ndarray, uniform: Callable[..., np.ndarray]) -> np.ndarray:
    """Waves of random direction, length, phase and strength: float32 [n, size, size]."""
    wave = np.sin(uniform(3.0, 12.0, 1, 1) * _ramp(axis, uniform) + uniform(0.0, 6.3, 1, 1))
    return uniform(0.0, 0.08, 1, 1) * wave


# Signed distances: float32 [m, size, size] coordinates to float32 [m, size, size], negative inside.
# Every shape lies in the unit disc and nearly fills it, so that size does not tell the class.


def _disc(x: np.ndarray, y: np.ndarray, radius: float = 0.9) -> np.ndarray:
    return np.hypot(x, y) - np.float32(radius)


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - np.float32(half_width), np.abs(y) - np.float32(half_height))


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _box(x, y, 0.7, 0.7)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    side, half = np.float32(np.sqrt(0.75)), np.float32(0.5)
    return np.maximum(side * np.abs(x) + half * y, -y) - half


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_box(x, y, 0.95, 0.26), _box(x, y, 0.26, 0.95))


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - np.float32(0.7)) - np.float32(0.2)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: the plane folded into one tenth, where the outline is one straight edge."""
    tenth = np.float32(np.pi / 5)
    turn = np.arctan2(x, y)
    folded = np.abs((turn + tenth) % (2 * tenth) - tenth)  # 0 at a point, `tenth` at a notch
    length = np.hypot(x, y)
    tip, notch = np.array([0.0, 1.0]), 0.42 * np.array([np.sin(np.pi / 5), np.cos(np.pi / 5)])
    edge = notch - tip
    normal = (np.array([-edge[1], edge[0]]) / np.hypot(*edge)).astype(np.float32)
    return length * (np.sin(folded) * normal[0] + np.cos(folded) * normal[1]) - np.float32(
        normal @ tip
    )


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_disc(x, y, 0.95), -_disc(x - np.float32(0.5), y, 0.75))


def _bar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _box(x, y, 0.95, 0.24)


def _pair(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(np.abs(x) - np.float32(0.55), y) - np.float32(0.4)


def _corner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    arm = np.float32(0.45)
    return np.minimum(_box(x + arm, y, 0.24, 0.72), _box(x, y + arm, 0.72, 0.24))


# Fill patterns: coordinates to 0 (the shape's colour) or 1 (its second colour).


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(np.float32(12.0) * x) > 0


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(np.float32(8.0) * x) * np.sin(np.float32(8.0) * y) > 0


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.cos(np.float32(12.0) * x) + np.cos(np.float32(12.0) * y) > 0.8


_Field = Callable[[np.ndarray, np.ndarray], np.ndarray]
_SHAPES: tuple[tuple[str, _Field], ...] = (
    ("disc", _disc),
    ("square", _square),
    ("triangle", _triangle),
    ("cross", _cross),
    ("ring", _ring),
    ("star", _star),
    ("crescent", _crescent),
    ("bar", _bar),
    ("pair", _pair),
    ("corner", _corner),
)
_PATTERNS: tuple[tuple[str, _Field], ...] = (
    ("", lambda x, y: np.zeros_like(x)),
    ("striped ", _stripes),
    ("checked ", _checks),
    ("dotted ", _dots),
)

CLASS_NAMES = tuple(pattern + shape for pattern, _ in _PATTERNS for shape, _ in _SHAPES)
MAX_CLASSES = len(CLASS_NAMES)
