"""The base of all operations, and the checks of their fields."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

from fastcifar.errors import ConfigError

Range = tuple[float, float]
BORDERS = ("zero", "reflect", "edge")
# The colour of the average CIFAR-10 pixel, rounded: a cut-out square of this colour is zero once
# normalised, which is the fill of the Cutout paper; ImageNet's average differs by at most 10.
MEAN_COLOUR = (125, 123, 114)


@dataclass(frozen=True)
class Operation:
    """Base of all operations.

    Attributes:
        kind: which part of the chain the operation belongs to.
        columns: how many uniform numbers an image spends on it.
        group_size: the operation works on blocks of so many neighbouring positions, so a replica's
            slice of the global batch must be a multiple of it.
    """

    kind: ClassVar[str] = ""
    columns: ClassVar[int] = 0
    group_size: ClassVar[int] = 1

    def describe(self) -> str:
        """Return one line such as `PadCrop(padding=4, border='zero')`."""
        values = ", ".join(f"{f.name}={_short(getattr(self, f.name))}" for f in fields(self))
        return f"{type(self).__name__}({values})"

    def _range(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not (isinstance(value, tuple | list) and len(value) == 2):
            raise ConfigError(f"{self._name(name)} must be a pair (low, high). Received: {value!r}")
        first, last = value
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
            raise ConfigError(f"{self._name(name)} must hold finite numbers. Received: {value!r}")
        if first > last:
            raise ConfigError(
                f"{self._name(name)} is upside down: low must not exceed high. Received: {value!r}"
            )
        if first < low or last > high:
            raise ConfigError(
                f"{self._name(name)} must lie within [{low:g}, {high:g}]. Received: {value!r}"
            )
        # Lists come from configuration files; a tuple keeps the operation hashable.
        object.__setattr__(self, name, (float(first), float(last)))

    def _number(self, name: str, low: float, high: float, *, whole: bool = False) -> None:
        value = getattr(self, name)
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            what = "a whole number" if whole else "a number"
            raise ConfigError(
                f"{self._name(name)} must be {what} within [{low:g}, {high:g}]. Received: {value!r}"
            )

    def _choice(self, name: str, legal: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in legal:
            raise ConfigError(
                f"{self._name(name)} must be one of {', '.join(legal)}. Received: {value!r}"
            )

    def _colour(self, name: str) -> None:
        value = getattr(self, name)
        if not (
            isinstance(value, tuple | list)
            and len(value) == 3
            and all(isinstance(v, int | float) and 0 <= v <= 255 for v in value)
        ):
            raise ConfigError(
                f"{self._name(name)} must be three numbers within [0, 255]. Received: {value!r}"
            )
        object.__setattr__(self, name, tuple(value))

    def _name(self, field: str) -> str:
        return f"{type(self).__name__}.{field}"


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_short(v) for v in value)})"
    return f"{value:g}" if isinstance(value, float) else repr(value)
