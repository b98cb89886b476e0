"""The flags of the benchmarks whose rows have a process of their own; no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from fastcifar.bench import axes, cure_cases, rungs
from fastcifar.bench.cure_cases import Case
from fastcifar.bench.flags import MeasureFlags
from fastcifar.bench.rungs import Rung
from fastcifar.errors import ConfigError


@dataclass(frozen=True)
class PrecisionFlags(MeasureFlags):
    """What `precision` takes beside the flags of a run.

    Attributes:
        steps: of the loss curves.
        include_fp16: try float16 where it is emulated.
        seeds: runs of each precision to the end, 2 or more. Default: none.
    """

    steps: int = 50
    include_fp16: bool = False
    seeds: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2:
            raise ConfigError(f"steps must be 2 or more. Received: {self.steps}")
        if self.seeds is not None and self.seeds < 2:
            raise ConfigError(
                "seeds must be 2 or more, because one run tells no spread; leave it out for no "
                f"runs. Received: {self.seeds}"
            )


@dataclass(frozen=True)
class StepFlags(MeasureFlags):
    """What `step` takes beside the flags of a run.

    Attributes:
        dump_hlo: a file to write the compiled step to, instead of measuring.
    """

    dump_hlo: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dump_hlo is not None and (self.out, self.seconds, self.rounds) != (None,) * 3:
            raise ConfigError("dump-hlo measures nothing: leave --out, --seconds and --rounds out")


@dataclass(frozen=True)
class AccuracyFlags(MeasureFlags):
    """What `accuracy` takes beside the flags of a run.

    Attributes:
        seeds: how many runs of each recipe.
        target: validation accuracy to be reached, 0..1.
    """

    seeds: int = 3
    target: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ConfigError(f"seeds must be 1 or more. Received: {self.seeds}")
        if self.target is not None and not 0 < self.target <= 1:
            raise ConfigError(f"target must be above 0 and at most 1. Received: {self.target}")
        if self.seconds is not None or self.rounds is not None:
            raise ConfigError("bench accuracy runs to the end: use --seeds and --epochs")


@dataclass(frozen=True)
class TuneFlags(MeasureFlags):
    """What `tune` takes beside the flags of a run.

    Attributes:
        budget: minutes.
        axes: what may be changed, joined by commas. Default: all.
        write: the file of the winner. Default: beside the record.
    """

    budget: float = 5.0
    axes: str | None = None
    write: str | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The axes that may be changed."""
        return axes.checked([] if self.axes is None else self.axes.split(","))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget <= 0:
            raise ConfigError(f"budget must be above 0 minutes. Received: {self.budget}")
        if self.rounds is not None:
            raise ConfigError("bench tune measures for --budget MINUTES: leave --rounds out")
        _ = self.chosen  # refuses a wrong name


@dataclass(frozen=True)
class LadderFlags(MeasureFlags):
    """What `ladder` takes beside the flags of a run.

    Attributes:
        rungs: names, joined by commas. Default: all.
    """

    rungs: str | None = None

    @property
    def chosen(self) -> tuple[Rung, ...]:
        """The rungs that are tried."""
        return rungs.chosen([] if self.rungs is None else self.rungs.split(","))

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.chosen  # refuses a wrong name


@dataclass(frozen=True)
class CuresFlags(MeasureFlags):
    """What `cures` takes beside the flags of a run.

    Attributes:
        only: names of cases, joined by commas. Default: all.
    """

    only: str | None = None

    @property
    def chosen(self) -> tuple[Case, ...]:
        """The cases that are tried."""
        return cure_cases.chosen([] if self.only is None else self.only.split(","))

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.chosen  # refuses a wrong name


@dataclass(frozen=True)
class ScalingFlags(MeasureFlags):
    """What `scaling` takes beside the flags of a run.

    Attributes:
        replicas: their numbers, joined by commas; 1 is always measured.
    """

    replicas: str = "1,2,4"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers above 1, in rising order."""
        return tuple(sorted({int(word) for word in self.replicas.split(",")} - {1}))

    def __post_init__(self) -> None:
        super().__post_init__()
        words = self.replicas.split(",")
        if not all(word.isdecimal() and int(word) >= 1 for word in words) or not self.numbers:
            raise ConfigError(
                "replicas takes whole numbers joined by commas, one of them 2 or more, such as "
                f"1,2,4. Received: {self.replicas!r}"
            )
