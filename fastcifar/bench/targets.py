"""What was aimed at on a GPU, and what the records of the suite say to it. No TensorFlow here.

A target without a record of a GPU is not measured: there is no figure to fill in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastcifar.bench import record as records
from fastcifar.bench.record import Estimate, Record, Row

NOT_MEASURED = "not measured"
REACHED, MISSED = "reached", "missed"
# The GPU that the targets are for; the rate has one for another too, images/s.
DEVICE = "H200"
_RATES = {DEVICE: 5_000, "H100": 4_500}
_STRETCH = 5_900
# s of training from scratch: aimed at, and at most.
_SCRATCH_GOAL_S, _SCRATCH_MOST_S = 60, 120
STEP, STAGES, SMALL_STAGES = "gpu-step-224px", "gpu-stages-224px", "gpu-stages-32px"
SCRATCH, STARTUP = "gpu-scratch", "gpu-startup-224px"
_FASTEST = "mixed_bfloat16 xla"


@dataclass(frozen=True)
class Found:
    """What a record says to a target.

    Attributes:
        text: the figure with its spread and n.
        reached: whether it is what was aimed at.
    """

    text: str
    reached: bool


@dataclass(frozen=True)
class Target:
    """Something aimed at.

    Attributes:
        what: is measured.
        target: in words.
        record: that says it, without its ending.
        find: what the record says; None where its row has no figure.
    """

    what: str
    target: str
    record: str
    find: Callable[[Record], Found | None]


def _at_least(estimate: Estimate | None, least: float, form: str = "{:.2f}") -> Found | None:
    if estimate is None:
        return None
    low, median, high = (form.format(v) for v in (estimate.low, estimate.median, estimate.high))
    return Found(f"{median} [{low}, {high}], n = {estimate.n}", estimate.median >= least)


def _row(record: Record, name: str) -> Row:
    return record.row(name) or Row(name)


def _rate(record: Record) -> Found | None:
    gpu = next(iter(record.environment["gpus"]))
    least = next((rate for name, rate in _RATES.items() if name in gpu), _RATES[DEVICE])
    return _at_least(_row(record, "end_to_end").images_per_s, least, "{:,.0f}")


def _efficiency(record: Record) -> Found | None:
    return _at_least(_row(record, "end_to_end").ratios.get("step"), 0.98, "{:.3f}")


def _transforms(record: Record) -> Found | None:
    rows = [_row(record, name) for name in ("resize", "augment")]
    shares = [row.figures["share_of_step"] for row in rows if "share_of_step" in row.figures]
    if len(shares) < len(rows):
        return None
    share = sum(shares)
    return Found(f"{share:.1%}", share < 0.05)


def _times(other: str, least: float) -> Callable[[Record], Found | None]:
    return lambda record: _at_least(_row(record, _FASTEST).ratios.get(other), least)


def _utilisation(record: Record) -> Found | None:
    rows = [row for row in record.rows if row.name == _FASTEST or row.name.startswith("batch ")]
    found = [(row.figures["utilisation"], row) for row in rows if "utilisation" in row.figures]
    if not found:
        return None
    share, row = max(found, key=lambda pair: pair[0])
    return Found(f"{share:.1%}, batch {row.figures['global_batch_size']}", share >= 0.15)


def _scratch(record: Record) -> Found | None:
    row = _row(record, "cifar10-scratch")
    config = record.config.get("cifar10-scratch", {})
    # Other images, or fewer runs, are not what was aimed at.
    if config.get("data", {}).get("source") != "image_folder" or row.figures.get("runs", 0) < 3:
        return None
    accuracy, seconds = row.figures["test_accuracy"], row.figures["train_s"]
    spread = row.figures["deviation"]
    text = (
        f"{accuracy:.2%}, standard deviation {spread:.2%}, after {seconds:,.0f} s of training; "
        f"n = {row.figures['runs']}"
    )
    if _SCRATCH_GOAL_S <= seconds < _SCRATCH_MOST_S:
        text += f"; over the goal of {_SCRATCH_GOAL_S} s"
    return Found(text, accuracy >= 0.94 and seconds < _SCRATCH_MOST_S)


def _warm(record: Record) -> Found | None:
    found = _row(record, "xla_warm").figures.get("compile_to_cold")
    if found is None:
        return None
    estimate = Estimate(**found)
    text = (
        f"{estimate.median:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] of the cold one, "
        f"n = {estimate.n}"
    )
    return Found(text, estimate.median <= 0.5)


TARGETS = (
    Target(
        "ResNet50 training, 224 px, bfloat16 + XLA, real pipeline, `standard` augmentation",
        f"{_RATES[DEVICE]:,} images/s or more ({_RATES['H100']:,} on an H100); "
        f"stretch {_STRETCH:,}; published limit 7,945 (H100: 7,157; MLPerf v4.0, MXNet, per GPU)",
        STAGES,
        _rate,
    ),
    Target(
        "pipeline efficiency (end_to_end / step) at 224 px", "0.98 or more", STAGES, _efficiency
    ),
    Target("the same at 32 px", "0.98 or more", SMALL_STAGES, _efficiency),
    Target("augment + resize, share of the step at 224 px", "under 5 %", STAGES, _transforms),
    Target("bfloat16 against float32 without TF32", "3× or more", STEP, _times("float32 xla", 3.0)),
    Target("bfloat16 against TF32", "1.8× or more", STEP, _times("tf32 xla", 1.8)),
    Target(
        "XLA on against off, bfloat16",
        "1.1× or more (1.1× to 1.4× expected)",
        STEP,
        _times("mixed_bfloat16", 1.1),
    ),
    Target(
        "model-FLOPs utilisation at 224 px, against the measured peak",
        "15 % or more",
        STEP,
        _utilisation,
    ),
    Target(
        "CIFAR-10 (JPEG re-encoded), ResNet50 with CIFAR stem, from scratch, mean of 3 seeds",
        f"94 % or more on the test images, under {_SCRATCH_GOAL_S} s of training; "
        f"{_SCRATCH_MOST_S} s at most",
        SCRATCH,
        _scratch,
    ),
    Target("compile_s with a warm compile cache", "half or less", STARTUP, _warm),
)


def read(results: Path) -> dict[str, Record]:
    """The suite's records in a folder that a GPU made at full size, by name.

    Raises:
        ConfigError: if a record is damaged.
    """
    names = dict.fromkeys(target.record for target in TARGETS)
    paths = {name: results / f"{name}.json" for name in names}
    found = {name: records.read(path) for name, path in paths.items() if path.exists()}
    return {name: record for name, record in found.items() if _counts(record)}


def _counts(record: Record) -> bool:
    models = [record.config.get("model"), *(_model(value) for value in record.config.values())]
    depths = {model["depth"] for model in models if model}
    return bool(record.environment.get("gpus")) and depths <= {50}


def _model(value: object) -> Mapping[str, int] | None:
    """The network of a configuration that stands in a record beside others."""
    return value.get("model") if isinstance(value, dict) else None


def lines(found: Mapping[str, Record]) -> list[Sequence[str]]:
    """The rows of the table: what, target, measured, whether that is it, the record."""
    made: list[Sequence[str]] = []
    for target in TARGETS:
        record = found.get(target.record)
        said = target.find(record) if record is not None else None
        if said is None:
            made.append((target.what, target.target, NOT_MEASURED, "", f"`{target.record}`"))
        else:
            outcome = REACHED if said.reached else MISSED
            made.append((target.what, target.target, said.text, outcome, f"`{target.record}`"))
    return made


def remark(found: Mapping[str, Record]) -> str:
    """What there is to say of the devices; empty where nothing was measured."""
    devices = dict.fromkeys(gpu for record in found.values() for gpu in record.environment["gpus"])
    if not devices:
        return ""
    said = f"Measured on {', '.join(devices)}."
    if all(DEVICE in device for device in devices):
        return said
    return f"{said} The targets are for one {DEVICE}, and are not scaled to another GPU's memory."
