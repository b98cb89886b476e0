"""Operations that change colours in place, or cover pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastcifar.augment.operations.base import MEAN_COLOUR, Operation, Range


@dataclass(frozen=True)
class Photometric(Operation):
    """Base of the operations that change colours in place, on the source, before resampling."""

    kind = "photometric"
    columns = 2
    probability: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        self._number("probability", 0, 1)


@dataclass(frozen=True)
class _Blend(Photometric):
    """Blend with a degenerate image: 0 gives that image, 1 the original, above 1 exaggerates."""

    factor: Range = (0.6, 1.4)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._range("factor", 0, 10)


@dataclass(frozen=True)
class Brightness(_Blend):
    """Multiply by `factor` (0 is black)."""


@dataclass(frozen=True)
class Contrast(_Blend):
    """Stretch differences from the image's mean grey by `factor` (0 is that grey)."""


@dataclass(frozen=True)
class Saturation(_Blend):
    """Stretch differences from each pixel's own grey by `factor` (0 is greyscale)."""


@dataclass(frozen=True)
class Sharpness(_Blend):
    """Stretch differences from a smoothed copy by `factor` (0 is smoothed)."""


@dataclass(frozen=True)
class Hue(Photometric):
    """Turn the hue circle by `turns` (1 is once around)."""

    turns: Range = (-0.1, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._range("turns", -1, 1)


@dataclass(frozen=True)
class Greyscale(Photometric):
    """Replace the three channels by luma."""

    probability: float = 0.2


@dataclass(frozen=True)
class Invert(Photometric):
    """Replace v by 255 - v."""

    probability: float = 0.2


@dataclass(frozen=True)
class Equalise(Photometric):
    """Flatten the histogram of each channel."""

    probability: float = 0.2


@dataclass(frozen=True)
class Autocontrast(Photometric):
    """Stretch each channel to 0..255."""

    probability: float = 0.2


@dataclass(frozen=True)
class Posterise(Photometric):
    """Keep the highest `bits` bits of each value (a whole number drawn from the range)."""

    bits: Range = (4, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._range("bits", 1, 8)


@dataclass(frozen=True)
class Solarise(Photometric):
    """Invert the values at or above `threshold`."""

    threshold: Range = (128, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._range("threshold", 0, 256)


@dataclass(frozen=True)
class GaussianNoise(Photometric):
    """Add independent normal noise of standard deviation `sigma` (0..255 scale)."""

    sigma: Range = (0.0, 12.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._range("sigma", 0, 255)


@dataclass(frozen=True)
class Erasing(Operation):
    """Base of the operations that cover a rectangle with the colour `fill` (0..255)."""

    kind = "erasing"
    probability: float = field(default=1.0, kw_only=True)
    fill: tuple[float, float, float] = field(default=MEAN_COLOUR, kw_only=True)

    def __post_init__(self) -> None:
        self._number("probability", 0, 1)
        self._colour("fill")


@dataclass(frozen=True)
class Cutout(Erasing):
    """Cover a square of `side` times the image's shorter side, centred anywhere on the image.

    DeVries and Taylor, "Improved regularization of convolutional neural networks with Cutout"
    (2017). The square is clipped at the border and covers whole source pixels.
    """

    columns = 3
    side: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("side", 0, 1)


@dataclass(frozen=True)
class RandomErasing(Erasing):
    """Cover a rectangle of random area (fraction of the image) and aspect (width / height).

    Zhong et al., "Random erasing data augmentation" (2017), with a constant fill and one draw: a
    rectangle longer than the image on one side is shortened there.
    """

    columns = 5
    area: Range = (0.02, 1 / 3)
    aspect: Range = (0.3, 1 / 0.3)
    probability: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._range("area", 0, 1)
        self._range("aspect", 0.1, 10)
