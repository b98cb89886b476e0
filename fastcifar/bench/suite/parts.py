"""The parts of the suite, in the order of their worth. Standard library only.

A short visit to a GPU host still brings home the figures that matter most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Stand for the record of a task and for the folder of what it leaves beside it.
RECORD, WORK = "{record}", "{work}"


@dataclass(frozen=True)
class Setting:
    """What the parts measure.

    Attributes:
        data: class folders of CIFAR-10, or None for drawn images.
        small: everything at tiny sizes, to see on a CPU that it works.
        cpu: on the CPU, whatever GPUs there are.
    """

    data: Path | None = None
    small: bool = False
    cpu: bool = False


@dataclass(frozen=True)
class Task:
    """What makes one record.

    Attributes:
        record: its name without the ending.
        commands: what `python -m` runs, one after the other.
        needs_data: without class folders it would say nothing.
    """

    record: str
    commands: tuple[tuple[str, ...], ...]
    needs_data: bool = False


@dataclass(frozen=True)
class Part:
    """Tasks that belong together.

    Attributes:
        name: to ask for it by.
        minutes: that one call may spend on it.
        what: it measures, in a line.
        tasks: in the order of their worth.
    """

    name: str
    minutes: float
    what: str
    tasks: tuple[Task, ...]


# ResNet50 v1.5 at 224 px: what others publish figures of. 224 px from 32: what CIFAR-10 is
# fine-tuned at. The optimizer is theirs too.
_LARGE = (
    *("cifar10-32px", "--image-size", "224", "--global-batch-size", "256"),
    *("--stride-version", "v1.5", "--augment", "standard"),
    *("--optimizer", "sgd", "--weight-decay", "5e-5", "--learning-rate", "0.1"),
)
_SCRATCH = ("cifar10-scratch",)
# The same programs at a size that a CPU finishes in seconds.
_TINY = (
    *("cifar10-32px", "--depth", "14", "--width", "4", "--image-size", "16"),
    *("--global-batch-size", "16", "--optimizer", "sgd", "--learning-rate", "0.01"),
)
_TINY_SCRATCH = (
    *("cifar10-scratch", "--depth", "14", "--width", "4", "--epochs", "2"),
    *("--global-batch-size", "32", "--learning-rate", "0.05"),
)
_DRAWN = ("--source", "synthetic", "--synthetic-count", "50000")
# Where it does not matter what is on the images, few of them: every row draws its own.
_FEW = ("--source", "synthetic", "--synthetic-count", "8192")
# A trace begins behind the third call and wants all its steps in one epoch.
_MANY = ("--source", "synthetic", "--synthetic-count", "20000")
_TINY_DRAWN = ("--source", "synthetic", "--synthetic-count", "256", "--synthetic-size", "16")
# What the host no longer does is no stage; the others are those of the table before.
_RESIDENT = ("--cache", "device", "--stages", "step,end_to_end")
_RUNGS = (
    "whole batches,order permutation,augment-on device,resize-on device,transfer uint8,"
    "precision auto,xla on,steps-per-call auto,cache device"
)


_HLO = Path(__file__).resolve().parents[3] / "benchmarks" / "hlo"
# Ours first, then TensorFlow's gradient of max-pooling, a larger batch, another network.
_HLO_FILES = (
    *("resnet50-224px-256", "resnet50-224px-256-scatter", "resnet50-224px-512"),
    "cifar10-scratch-512",
)


def without_tensorflow() -> Part:
    """What a host can measure that has JAX and no TensorFlow: the compiled step alone."""
    files = [str(_HLO / f"{name}.hlo.xz") for name in _HLO_FILES]
    command = ("fastcifar.bench.run_hlo", *files, "--out", RECORD)
    return Part(
        "hlo",
        2,
        "the compiled step alone, by JAX: without TensorFlow, input and loop",
        (Task("gpu-hlo", (command,)),),
    )


def parts(setting: Setting) -> tuple[Part, ...]:
    """All parts, in order."""
    small = setting.small
    real = _images(setting)
    few, many = (_TINY_DRAWN, _TINY_DRAWN) if small else (_FEW, _MANY)
    large = _TINY if small else _LARGE
    scratch = _TINY_SCRATCH if small else _SCRATCH
    quick = ("--rounds", "2", "--seconds", "1")

    def long(seconds: int) -> tuple[str, ...]:
        return quick if small else ("--seconds", str(seconds))

    def bench(kind: str, *arguments: str) -> tuple[tuple[str, ...], ...]:
        return (("fastcifar", "bench", kind, *arguments, "--out", RECORD),)

    def stages(name: str, *arguments: str) -> Task:
        return Task(f"gpu-stages-{name}", bench("stages", *arguments, *real, *long(40)))

    own = ("--small",) if small else ()
    traced = "2" if small else "8"
    return (
        Part(
            "check",
            2,
            "the environment; products, convolutions and a compiled function against the CPU",
            (
                Task(
                    "gpu-check",
                    (("fastcifar.bench.suite.check", *own, "--out", RECORD),),
                ),
            ),
        ),
        Part(
            "step",
            12,
            "the step at 224 px, data resident: bf16, TF32, float32, XLA on and off, the batch",
            (Task("gpu-step-224px", bench("step", *large, *few, *long(60))),),
        ),
        Part(
            "stages",
            4,
            "where the time of a step goes at 224 and 32 px; images on the device",
            (
                stages("224px", *large),
                stages("32px", *scratch),
                stages("224px-resident", *large, *_RESIDENT),
                stages("32px-resident", *scratch, *_RESIDENT),
            ),
        ),
        Part(
            "precision-ladder",
            5,
            "precisions on the real path with their losses; what each choice buys",
            (
                Task(
                    "gpu-precision-224px",
                    bench("precision", *large, *real, "--steps", "10", *long(20)),
                ),
                Task(
                    "gpu-ladder-224px",
                    bench(
                        *("ladder", *large, *real),
                        *("--rungs", "whole batches,steps-per-call auto" if small else _RUNGS),
                        *long(50),
                    ),
                ),
            ),
        ),
        Part(
            "scratch",
            9,
            "cifar10-scratch over three seeds: test accuracy and training time",
            (
                Task(
                    "gpu-scratch",
                    bench(
                        *("accuracy", *scratch, *real),
                        *("--seeds", "2" if small else "3", "--target", "0.94"),
                    ),
                    needs_data=not small,
                ),
            ),
        ),
        Part(
            "correct",
            3,
            "operations and policies against their references; two parts of one device",
            (
                Task(
                    "gpu-correct",
                    (("fastcifar.bench.suite.correct", *own, "--out", RECORD),),
                ),
            ),
        ),
        Part(
            "startup-trace-tune",
            14,
            "start-up with a warm compile cache, a profiler's trace, levers, tuning",
            (
                Task("gpu-startup-224px", bench("startup", *large, *few, *long(90))),
                Task(
                    "gpu-trace-224px",
                    (
                        (
                            *("fastcifar", "train", *large, *many, "--run-dir", f"{WORK}/run"),
                            *("--epochs", "1", "--steps-per-call", traced, "--profile", traced),
                            *("--limit-test", "50"),
                        ),
                        ("fastcifar.bench.trace", f"{WORK}/run", "--out", RECORD),
                    ),
                ),
                Task("gpu-levers-224px", bench("levers", *large, *few, *long(60))),
                Task(
                    "gpu-tune-32px",
                    bench(
                        *("tune", *scratch, *real),
                        *("--axes", "steps-per-call,cache,global-batch-size"),
                        *(("--budget", "0.2", "--seconds", "1") if small else ("--budget", "2")),
                        *("--write", f"{WORK}/tuned.json"),
                    ),
                ),
            ),
        ),
    )


def _images(setting: Setting) -> tuple[str, ...]:
    if setting.data is not None:
        folder = ("--source", "image_folder", "--data-path", str(setting.data))
        few = ("--limit-train", "256", "--limit-test", "50") if setting.small else ()
        return (*folder, *few)
    return _TINY_DRAWN if setting.small else _DRAWN
