"""`fastcifar bench augment`: flags, parts, record and tables. No TensorFlow here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastcifar import recipes
from fastcifar.bench import flags, pages, plots, tables
from fastcifar.bench.augmentation.names import LIBRARIES, PARTS, subjects
from fastcifar.bench.flags import MeasureFlags
from fastcifar.bench.record import Record, RecordFile
from fastcifar.config import RunConfig, RuntimeConfig, flag
from fastcifar.errors import ConfigError, nearest

KIND = "augment"
# The network whose step the shares are of; its images are drawn, which costs a step nothing.
RECIPE = "cifar10-32px"
# One device: each of several does the same.
RUNTIME = RuntimeConfig(devices=1)


@dataclass(frozen=True)
class AugmentFlags(MeasureFlags):
    """What `augment` takes.

    Attributes:
        image_size, source_size: side in pixels of the images that go and that come.
        global_batch_size: images in a batch.
        parts: of `names.PARTS`, joined by commas.
        only: operations and policies of the part `operations`, joined by commas.
    """

    image_size: int = 32
    source_size: int = 32
    global_batch_size: int = 128
    parts: str = ",".join(PARTS)
    only: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "source_size"):
            value = getattr(self, name)
            if value < 8:
                raise ConfigError(f"{flag(name)} must be 8 or more. Received: {value}")
        groups = max(policy.group_size for _, policy in subjects().values())
        if self.global_batch_size < 1 or self.global_batch_size % groups:
            raise ConfigError(
                f"global-batch-size must be a multiple of {groups}, the groups of some policies. "
                f"Received: {self.global_batch_size}"
            )
        for name, legal in (("parts", PARTS), ("only", tuple(subjects()))):
            for word in self.words(name):
                if word not in legal:
                    raise ConfigError(
                        f"{name} takes {', '.join(legal)}, several joined by commas. "
                        f"Received: {word!r}.{nearest(word, legal)}"
                    )

    def words(self, name: str) -> tuple[str, ...]:
        """What `parts` or `only` names."""
        text = getattr(self, name)
        return () if text is None else tuple(text.split(","))


def run(arguments: Sequence[str], start_tensorflow: Callable[[], None] = lambda: None) -> int:
    """Measure into a record, and show what there is, also where it is interrupted.

    Args:
        arguments: what follows `bench augment`.
        start_tensorflow: called once the arguments are legal, before TensorFlow is imported.

    Returns:
        The exit status: 1 where a row of ours failed. Another library's is no fault of this one.

    Raises:
        ConfigError: for anything that is not legal, in one line.
    """
    given = parse(arguments)
    start_tensorflow()
    from fastcifar import environment, runtime

    chosen = runtime.setup(RUNTIME)
    found = environment.fingerprint(list(chosen.gpus), dict(chosen.threads))
    config = {key: value for key, value in dataclasses.asdict(given).items() if key != "out"}
    command = flags.command_line(KIND, arguments)
    path = flags.out_path(given, KIND)
    file = RecordFile(path, Record(KIND, command, found, config))
    try:
        measure(given, chosen, file.put)
    finally:
        print(pages.tables_of(file.record))
        written = [path, *plots.write_plots(path, file.record)]
        print(f"record: {', '.join(map(str, written))}")
    theirs = tuple(f"/{library}" for library in LIBRARIES)
    ours = tuple(row for row in file.record.rows if not row.name.endswith(theirs))
    return 1 if tables.failed(dataclasses.replace(file.record, rows=ours)) else 0


def parse(arguments: Sequence[str]) -> AugmentFlags:
    """Read the flags.

    Raises:
        ConfigError: for anything that is not legal, in one line.
    """
    given, rest = flags.split(arguments, AugmentFlags)
    flags.refuse(rest, f"bench {KIND}", AugmentFlags)
    return given


def measure(given: AugmentFlags, runtime: Any, put: Callable[..., None]) -> None:
    """Measure the parts in order; `put(*rows)` receives rows as they come.

    Args:
        given: what to measure, and for how long each part.
        runtime: see `fastcifar.runtime.setup`.
        put: takes the rows.
    """
    parts = given.words("parts")
    sizes = {
        "source_size": given.source_size,
        "image_size": given.image_size,
        "global_batch_size": given.global_batch_size,
    }
    long: dict[str, Any] = {"rounds": given.rounds}
    long |= {} if given.seconds is None else {"seconds": given.seconds}
    if "operations" in parts:
        from fastcifar.bench.augmentation.rates import RatesPlan, measure_rates

        measure_rates(RatesPlan(**sizes, **long, only=given.words("only")), put)
    if "input" in parts:
        from fastcifar.bench.augmentation.inputs import InputPlan, measure_input

        measure_input(InputPlan(**sizes, **long), runtime, put)
    if "step" in parts:
        from fastcifar.bench.augmentation.share import SharePlan, measure_share
        from fastcifar.training.preparation import prepare
        from fastcifar.training.progress import Display

        config = step_config(given)
        measure_share(config, prepare(config, Display(quiet=True)), SharePlan(**long), put)


def step_config(given: AugmentFlags) -> RunConfig:
    """The training whose step the shares are of."""
    config = recipes.get(RECIPE)
    data = dataclasses.replace(
        config.data,
        source="synthetic",
        synthetic_count=8 * given.global_batch_size,
        synthetic_size=given.source_size,
    )
    phase = dataclasses.replace(config.phases[0], image_size=given.image_size)
    return dataclasses.replace(
        config,
        global_batch_size=given.global_batch_size,
        data=data,
        phases=(phase,),
        runtime=RUNTIME,
    )
