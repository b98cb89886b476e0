"""Operations on blocks of the batch: mixing, automatic augmentation, KerasCV's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastcifar.augment.operations.base import BORDERS, Operation


@dataclass(frozen=True)
class Mixing(Operation):
    """Base of the operations that blend the images and labels at positions 2 i and 2 i + 1."""

    kind = "mixing"
    group_size = 2
    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        self._number("alpha", 0.01, 100)
        self._number("probability", 0, 1)


@dataclass(frozen=True)
class MixUp(Mixing):
    """Average an image with its partner, weight Beta(alpha, alpha) (Zhang et al., 2017)."""

    columns = 2


@dataclass(frozen=True)
class CutMix(Mixing):
    """Paste a rectangle of the partner, kept area Beta(alpha, alpha) (Yun et al., 2019)."""

    columns = 4


@dataclass(frozen=True)
class Automatic(Operation):
    """Base of the operations that draw an operation for each image, of 14 equally likely ones.

    Eight change colours: brightness, contrast, saturation, sharpness, posterise, solarise,
    autocontrast, equalise. Six are affine: identity, shear and translate along either axis, rotate.
    `shear`, `degrees`, `blend` (distance of the factor from 1), `lost_bits` and the translation of
    each class are what strength 1 means; all but lost bits are drawn with either sign. A shear
    leaves the first row or column where it is, as torchvision's and that of the papers' code; a
    rotation, the centre. docs/augmentation.md compares each with torchvision.
    """

    kind = "automatic"
    group_size = 8
    columns_per_layer: ClassVar[int] = 3
    shear: float = 0.99
    degrees: float = 135.0
    blend: float = 0.99
    lost_bits: int = 6
    border: str = "zero"

    def __post_init__(self) -> None:
        self._number("shear", 0, 2)
        self._number("degrees", 0, 360)
        self._number("blend", 0, 1)
        self._number("lost_bits", 0, 7, whole=True)
        self._choice("border", BORDERS)


@dataclass(frozen=True)
class TrivialAugment(Automatic):
    """One operation per image, its strength uniform in [0, 1).

    Müller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation" (2021),
    in the "wide" space; strengths are continuous where the paper has 31 levels. `translate_pixels`
    are of the stored image, whatever its side: all of it at 32 pixels, little of it at 224.
    """

    columns = Automatic.columns_per_layer
    layers: ClassVar[int] = 1
    strength: ClassVar[float | None] = None
    translate_pixels: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("translate_pixels", 0, 1024)

    def farthest(self, side: int) -> float:
        """The translation of strength 1, in pixels, along a side of so many."""
        return self.translate_pixels


@dataclass(frozen=True)
class RandAugment(Automatic):
    """`layers` operations per image, all of strength `magnitude` / 30.

    Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space"
    (2019), with the 14 operations and the ranges of torchvision; `translate` is a fraction of the
    side. An image's colour operations in
    different layers are not independent of each other; see `fastcifar.augment.automatic`.
    """

    shear: float = 0.3
    translate: float = 150 / 331
    degrees: float = 30.0
    blend: float = 0.9
    lost_bits: int = 4
    layers: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("translate", 0, 1)
        self._number("layers", 1, 8, whole=True)
        self._number("magnitude", 0, 30, whole=True)

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.columns_per_layer * self.layers

    @property
    def strength(self) -> float:
        """The strength of every operation, 0..1."""
        return self.magnitude / 30

    def farthest(self, side: int) -> float:
        """The translation of strength 1, in pixels, along a side of so many."""
        return self.translate * side


@dataclass(frozen=True)
class KerasCV(Operation):
    """KerasCV's own layers: RandomFlip, RandomCrop after padding, RandomCutout. For comparison.

    They run in a graph but do not compile under XLA, and their randomness is their own: the seed
    and the positions have no influence.
    """

    kind = "keras_cv"
    padding: int = 4
    side: float = 0.25

    def __post_init__(self) -> None:
        self._number("padding", 0, 1024, whole=True)
        self._number("side", 0, 1)
