"""The rungs of `bench ladder`: from the naive way to this project's, one field of the configuration
each. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastcifar.config import RunConfig, flag
from fastcifar.errors import ConfigError, nearest

NAIVE = "naive"
# The one rung that is no field: the textbook's input goes image by image, this project's by batch.
WHOLE_BATCHES = "whole batches"


@dataclass(frozen=True)
class Variant:
    """A configuration and the way its input is assembled.

    Attributes:
        config: of the run.
        per_image: image by image, as `fastcifar.bench.textbook` does.
    """

    config: RunConfig
    per_image: bool = False


@dataclass(frozen=True)
class Rung:
    """One change.

    Attributes:
        section: of the configuration, `data` or `runtime`; empty for `WHOLE_BATCHES`.
        field: of the section.
        value: what it is changed to.
        on_gpu: only there.
    """

    section: str
    field: str
    value: Any = None
    on_gpu: bool = False

    @property
    def name(self) -> str:
        """Of its row: the flag without its dashes."""
        return f"{flag(self.field)} {self.value}" if self.section else self.field

    def apply(self, variant: Variant) -> Variant:
        """The variant with this change.

        Raises:
            ConfigError: if it needs another one that the variant does not have.
        """
        if not self.section:
            return dataclasses.replace(variant, per_image=False)
        if self.field == "order" and variant.per_image:
            raise ConfigError(f"{self.name} needs {WHOLE_BATCHES}")
        return dataclasses.replace(
            variant, config=_with(variant.config, self.section, {self.field: self.value})
        )


# In the order in which they are tried. The host's work first: what it holds back, nothing on the
# device can gain.
RUNGS = (
    Rung("data", "cache", "memory"),
    Rung("data", "prefetch", 2),
    Rung("data", "parallel_map", 2),
    Rung("", WHOLE_BATCHES),
    Rung("data", "order", "permutation"),
    Rung("data", "augment_on", "device"),
    Rung("data", "resize_on", "device"),
    Rung("data", "transfer", "uint8"),
    Rung("runtime", "precision", "auto"),
    Rung("runtime", "xla", "on"),
    Rung("runtime", "steps_per_call", "auto"),
    Rung("data", "cache", "device", on_gpu=True),
)
_NAIVE: dict[str, dict[str, Any]] = {
    "data": {
        "augment_on": "host",
        "resize_on": "host",
        "transfer": "float32",
        "order": "shuffle_buffer",
        "cache": "none",
        "prefetch": 0,
        "parallel_map": 1,
    },
    "runtime": {"precision": "float32", "xla": "off", "steps_per_call": "1"},
}
# Fields that a user cannot set beside the ladder.
FIELDS = tuple(name for section in _NAIVE.values() for name in section)


def naive(config: RunConfig) -> Variant:
    """The way that the textbook starts with: everything on the host, image by image, in float32."""
    for section, fields in _NAIVE.items():
        config = _with(config, section, fields)
    return Variant(config, per_image=True)


def chosen(names: Sequence[str]) -> tuple[Rung, ...]:
    """The rungs of these names, in the ladder's order; all of them if there are no names.

    Raises:
        ConfigError: for a name that is none, with the nearest that is.
    """
    known = {rung.name: rung for rung in RUNGS}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"rungs takes {', '.join(known)}, several joined by commas. "
                f"Received: {name!r}.{nearest(name, known)}"
            )
    return tuple(rung for rung in RUNGS if not names or rung.name in names)


def _with(config: RunConfig, section: str, fields: dict[str, Any]) -> RunConfig:
    changed = dataclasses.replace(getattr(config, section), **fields)
    return dataclasses.replace(config, **{section: changed})
