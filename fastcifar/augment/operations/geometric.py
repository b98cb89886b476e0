"""Operations that move pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastcifar.augment.operations.base import BORDERS, Operation, Range


@dataclass(frozen=True)
class Geometric(Operation):
    """Base of the operations that move pixels; all of a policy's fold into one resampling."""

    kind = "geometric"


@dataclass(frozen=True)
class Flip(Geometric):
    """Mirror left and right (axis "horizontal") or up and down ("vertical")."""

    columns = 1
    axis: str = "horizontal"
    probability: float = 0.5

    def __post_init__(self) -> None:
        self._choice("axis", ("horizontal", "vertical"))
        self._number("probability", 0, 1)


@dataclass(frozen=True)
class AlternatingFlip(Geometric):
    """Mirror every image left and right in every second epoch, half of them in the even ones.

    An image is mirrored where (hash(run seed, its index in the split) + epoch) is odd, so that it
    is seen in both orientations in any two consecutive epochs (Jordan, "94% on CIFAR-10 in 3.29
    seconds", 2024, section 3.6). Rows that are equal are mirrored independently of each other.
    """


@dataclass(frozen=True)
class PadCrop(Geometric):
    """Pad by `padding` source pixels on each side and crop back: a shift by whole pixels."""

    columns = 2
    padding: int = 4
    border: str = "zero"

    def __post_init__(self) -> None:
        self._number("padding", 0, 1024, whole=True)
        self._choice("border", BORDERS)


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """Crop a window of random area (fraction of the image) and aspect (width / height).

    As Szegedy et al., "Going deeper with convolutions" (2015), in torchvision's way: uniform area,
    log-uniform aspect, sides rounded to whole pixels; of ten such windows the first that fits, and
    where none does the largest central one whose aspect is allowed.
    """

    tries: ClassVar[int] = 10
    columns = 2 * tries + 2
    area: Range = (0.25, 1.0)
    aspect: Range = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        self._range("area", 0.01, 1)
        self._range("aspect", 0.1, 10)


@dataclass(frozen=True)
class Translate(Geometric):
    """Shift the picture right by `width` and down by `height`, in fractions of its side."""

    columns = 2
    height: Range = (-0.1, 0.1)
    width: Range = (-0.1, 0.1)
    border: str = "zero"

    def __post_init__(self) -> None:
        self._range("height", -1, 1)
        self._range("width", -1, 1)
        self._choice("border", BORDERS)


@dataclass(frozen=True)
class Zoom(Geometric):
    """Magnify the picture about its centre: 1.2 makes things 1.2 times as large, 0.8 smaller."""

    columns = 1
    factor: Range = (0.9, 1.1)
    border: str = "zero"

    def __post_init__(self) -> None:
        self._range("factor", 0.1, 10)
        self._choice("border", BORDERS)


@dataclass(frozen=True)
class Rotate(Geometric):
    """Turn the picture about its centre, counter-clockwise for positive degrees."""

    columns = 1
    degrees: Range = (-15.0, 15.0)
    border: str = "zero"

    def __post_init__(self) -> None:
        self._range("degrees", -360, 360)
        self._choice("border", BORDERS)


@dataclass(frozen=True)
class Shear(Geometric):
    """Slide rows by `x` times their distance from the centre, and columns by `y` times theirs."""

    columns = 2
    x: Range = (-0.1, 0.1)
    y: Range = (-0.1, 0.1)
    border: str = "zero"

    def __post_init__(self) -> None:
        self._range("x", -2, 2)
        self._range("y", -2, 2)
        self._choice("border", BORDERS)
