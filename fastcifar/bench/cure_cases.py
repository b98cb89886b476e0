"""Bottlenecks that can be provoked, each with its cure; no TensorFlow here.

A network of four channels stands in for a fast device: on two cores it trains as many images a
second as a GPU does with a large one, so that an input can hold it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastcifar.bench.stage_names import (
    AUGMENT,
    DECODE,
    DISPATCH,
    ORDER,
    READ,
    REDUCE,
    RESIZE,
    TRANSFER,
    UPDATE,
)
from fastcifar.errors import ConfigError, nearest

COMPUTE = "compute"  # forward and backward


@dataclass(frozen=True)
class Case:
    """A bottleneck and its cure.

    Attributes:
        name: of its rows.
        stage: that the bottleneck is, as the verdict calls it.
        recipe: that is run.
        flags: of both.
        before: flags that provoke it.
        after: flags of the cure, in their place.
        on_gpu: only there.
    """

    name: str
    stage: str
    recipe: str
    flags: str
    before: str
    after: str
    on_gpu: bool = False

    def arguments(self, which: str, rest: Sequence[str] = ()) -> list[str]:
        """Of `fastcifar train` for `which` of before and after, with `rest` behind them."""
        return [self.recipe, *self.flags.split(), *getattr(self, which).split(), *rest]


_FAST = "--width 4 --image-size 16"
_FASTEST = "--width 4 --image-size 8 --global-batch-size 512"
CASES = (
    Case(READ, READ, "quickstart", _FASTEST, "--memory-budget 10MB", "--memory-budget auto"),
    Case(DECODE, DECODE, "quickstart", _FASTEST, "--cache none", "--cache memory"),
    Case(
        ORDER,
        ORDER,
        "quickstart",
        _FASTEST,
        "--order shuffle_buffer --prefetch 0 --parallel-map 1",
        "--order permutation --prefetch 2 --parallel-map 2",
    ),
    Case(
        f"{AUGMENT}-host",
        AUGMENT,
        "quickstart",
        f"{_FAST} --augment standard",
        "--augment-on host --resize-on host",
        "--augment-on device --resize-on device",
    ),
    Case(
        TRANSFER,
        TRANSFER,
        "quickstart",
        _FAST,
        "--transfer float32",
        "--transfer uint8",
        on_gpu=True,
    ),
    Case(
        DISPATCH,
        DISPATCH,
        "quickstart",
        "--width 4 --image-size 8 --global-batch-size 16",
        "--steps-per-call 1",
        "--steps-per-call auto",
    ),
    Case(
        RESIZE,
        RESIZE,
        "quickstart",
        "--width 4 --image-size 96",
        "--resize-method bilinear",
        "--resize-method nearest",
    ),
    Case(AUGMENT, AUGMENT, "quickstart", _FAST, "--augment trivial", "--augment flip-crop"),
    Case(COMPUTE, COMPUTE, "cifar10-32px", "", "--precision float32", "--precision auto"),
    Case(
        REDUCE,
        REDUCE,
        "quickstart",
        "--width 64 --image-size 8 --strategy mirrored --logical-devices 2",
        "--global-batch-size 32",
        "--global-batch-size 256",
    ),
    Case(
        UPDATE,
        UPDATE,
        "quickstart",
        "--width 64 --image-size 8",
        "--global-batch-size 8",
        "--global-batch-size 128",
    ),
)


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names, in the order above; all of them if there are no names.

    Raises:
        ConfigError: for a name that is none, with the nearest that is.
    """
    known = [case.name for case in CASES]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"only takes {', '.join(known)}, several joined by commas. "
                f"Received: {name!r}.{nearest(name, known)}"
            )
    return tuple(case for case in CASES if not names or case.name in names)
