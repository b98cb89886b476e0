"""`fastcifar bench …`: parses, measures into a record, and shows its table. No TensorFlow here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcifar.bench import flags, process_commands, record, stage_names, tables
from fastcifar.bench.augmentation import command as augment
from fastcifar.bench.flags import MeasureFlags
from fastcifar.bench.recording import measure_into_record
from fastcifar.errors import ConfigError, nearest
from fastcifar.paths import local_path

HELP = """\
usage: fastcifar bench KIND [RECIPE] [flags]

kinds:
  stages [RECIPE]          where the time of a step goes, and what bounds it
  step [RECIPE]            the compiled step alone: precisions × XLA, and the largest batch
  startup [RECIPE]         what comes before the first step ends: import, build, trace, compile;
                           without XLA, with it, and with its compile cache filled
  ladder [RECIPE]          the naive way, then one change after the other: what each of them buys
  cures                    each bottleneck provoked and cured: before and after
  precision [RECIPE]       float32 against mixed precision: rate, memory, loss over the same steps;
                           with --seeds N also accuracy: N runs of each to the end
  scaling [RECIPE]         1, 2, 4 replicas: efficiency and the share of the reduction
  accuracy [RECIPE…]       runs over several seeds: accuracy, its spread, time to a target
  tune [RECIPE]            the fastest configuration that a budget finds, as a file for
                           `train --config`
  levers [RECIPE]          settings of TensorFlow and XLA for GPUs, one by one
  fit [RECIPE]             the real path against the step alone and against keras.Model.fit
  pipelines                order, batching and augmentation against tf.data's guide, TFDS, Keras,
                           and, where installed, torch and Grain
  augment                  operations and policies against other libraries' layers, against
                           tf.data.map, and as a share of the training step
  compare OLD NEW          two records: rates, start-up, accuracy, memory; exit status 1 where one
                           row is slower or worse beyond the noise

flags:
  --out FILE               the record (JSON); plots stand beside it.
                           Default: runs/bench-KIND-UTCTIME.json
  --seconds S, --rounds N  measure for that long, or that many rounds at most
  --stages order,step      of stages: only these
  --dump-hlo FILE          of step: write what XLA is given of it, and measure nothing
  --steps N, --include-fp16
                           of precision: of the loss curves; float16 also where it is emulated
  --only decode,order      of cures: only these cases
  --rungs "A,B"            of ladder: only these changes, such as "order permutation,xla on"
  --replicas 1,2,4         of scaling
  --budget MINUTES, --axes A,B, --write FILE
                           of tune: how long; what may be changed, such as precision; the file
                           of the winner
  --seeds N, --target 0.94 of accuracy: runs of each recipe; validation accuracy to be reached.
                           --seeds N of precision: runs of each precision, 2 or more; it runs as
                           long as bench accuracy does for each. Default: none
  --images, --image-size, --global-batch-size, --data-path DIR
                           of pipelines: the set and the batch; a folder of a folder for each class
                           with the images. Default: drawn noise
  --source-size, --image-size, --global-batch-size, --parts, --only
                           of augment: sizes; parts of operations,input,step; names of operations
                           and policies. --seconds is for each part
  those with a RECIPE take the flags of `fastcifar train`; the default recipe is cifar10-32px
"""

StartTensorflow = Callable[[], None]
# Below it a crop could cut away the number that an image shows at its centre.
MIN_IMAGE_SIZE = 16


@dataclass(frozen=True)
class StagesFlags(MeasureFlags):
    """What `stages` takes beside the flags of a run.

    Attributes:
        stages: names, joined by commas. Default: all.
    """

    stages: str | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The stages that are measured."""
        return stage_names.chosen([] if self.stages is None else self.stages.split(","))

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.chosen  # refuses a wrong name


@dataclass(frozen=True)
class PipelinesFlags(MeasureFlags):
    """What `pipelines` takes."""

    images: int = 50_000
    image_size: int = 32
    global_batch_size: int = 512
    data_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("images", "global_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name.replace('_', '-')} must be 1 or more. Received: {getattr(self, name)}"
                )
        if self.image_size < MIN_IMAGE_SIZE:
            raise ConfigError(
                f"image-size must be {MIN_IMAGE_SIZE} or more, because images show their numbers. "
                f"Received: {self.image_size}"
            )
        if self.global_batch_size > self.images:
            raise ConfigError(
                f"global-batch-size must be at most the {self.images} images. "
                f"Received: {self.global_batch_size}"
            )


def run(arguments: list[str], start_tensorflow: StartTensorflow = lambda: None) -> int:
    """Run `fastcifar bench ARGUMENTS`; return the exit status: 1 where a row failed.

    Args:
        arguments: what follows `bench`.
        start_tensorflow: called once all arguments are legal, before TensorFlow is imported.

    Raises:
        UserError: for anything that is not legal, in one line.
    """
    kinds: dict[str, Callable[[list[str], StartTensorflow], int]] = {
        "stages": _stages,
        "fit": _fit,
        "pipelines": _pipelines,
        "augment": augment.run,
        "compare": _compare,
        "accuracy": _in_processes(process_commands.accuracy),
        "cures": _in_processes(process_commands.cures),
        "ladder": _in_processes(process_commands.ladder),
        "precision": _in_processes(process_commands.precision),
        "scaling": _in_processes(process_commands.scaling),
        "tune": _in_processes(process_commands.tune),
        "startup": _in_processes(process_commands.startup),
        "step": _in_processes(process_commands.step),
        "levers": _in_processes(process_commands.levers),
    }
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP, end="")
        return 0
    if not arguments:
        raise ConfigError(f"bench needs one of {', '.join(kinds)}; bench --help explains")
    kind, *rest = arguments
    if kind not in kinds:
        raise ConfigError(
            f"bench takes one of {', '.join(kinds)}. Received: {kind!r}.{nearest(kind, kinds)}"
        )
    return kinds[kind](rest, start_tensorflow)


def _in_processes(command: Callable[[list[str]], int]) -> Callable[[list[str], Any], int]:
    """Rows that have processes of their own start TensorFlow there."""
    return lambda arguments, start_tensorflow: command(arguments)


def _pipelines(arguments: list[str], start_tensorflow: StartTensorflow) -> int:
    given, rest = flags.split(arguments, PipelinesFlags)
    flags.refuse(rest, "bench pipelines", PipelinesFlags)
    start_tensorflow()
    from fastcifar import environment
    from fastcifar.bench.pipelines import PipelinesPlan, measure_pipelines, numbered_images

    plan = PipelinesPlan(
        images=given.images,
        image_size=given.image_size,
        global_batch_size=given.global_batch_size,
        data_path=given.data_path,
        seconds=given.seconds or PipelinesPlan.seconds,
        rounds=given.rounds,
    )
    split = numbered_images(plan)  # a mistake here should leave no record behind
    return measure_into_record(
        "pipelines",
        arguments,
        given,
        environment.fingerprint(),
        dataclasses.asdict(plan),
        lambda put: measure_pipelines(plan, split, put),
    )


def _fit(arguments: list[str], start_tensorflow: StartTensorflow) -> int:
    given, rest = flags.split(arguments, MeasureFlags)
    config = flags.run_config(rest, "bench fit")
    start_tensorflow()
    from fastcifar import config_file
    from fastcifar.bench.fit import FitPlan, measure_fit, without_augmentation
    from fastcifar.training.preparation import prepare
    from fastcifar.training.progress import Display

    config = without_augmentation(config)
    prepared = prepare(config, Display())
    plan = FitPlan(seconds=given.seconds or FitPlan.seconds, rounds=given.rounds)
    return measure_into_record(
        "fit",
        arguments,
        given,
        prepared.environment,
        config_file.to_dict(config),
        lambda put: measure_fit(config, prepared, plan, put),
    )


def _stages(arguments: list[str], start_tensorflow: StartTensorflow) -> int:
    given, rest = flags.split(arguments, StagesFlags)
    config = flags.run_config(rest, "bench stages")
    start_tensorflow()
    from fastcifar import config_file
    from fastcifar.bench.stages import StagesPlan, measure_stages
    from fastcifar.training.preparation import prepare
    from fastcifar.training.progress import Display

    prepared = prepare(config, Display())
    plan = StagesPlan(given.chosen, given.seconds or StagesPlan.seconds, given.rounds)
    return measure_into_record(
        "stages",
        arguments,
        given,
        prepared.environment,
        config_file.to_dict(config),
        lambda put: measure_stages(config, prepared, plan, put),
    )


def _compare(arguments: list[str], start_tensorflow: StartTensorflow) -> int:
    from fastcifar.bench import compare

    if len(arguments) != 2 or any(path.startswith("-") for path in arguments):
        received = " ".join(arguments) or "nothing"
        raise ConfigError(f"bench compare takes two records, OLD and NEW. Received: {received}")
    old, new = (record.read(local_path("bench compare", path)) for path in arguments)
    changes = compare.compare(old, new)
    tables.console().print(compare.table(old, new, changes))
    return 1 if any(change.regression for change in changes) else 0
