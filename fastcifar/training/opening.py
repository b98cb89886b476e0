"""What a person is told before anything is computed: what is trained on, how, and by what."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from fastcifar.config import PhaseConfig, RunConfig
from fastcifar.wording import counted

_WIDTH = 80  # of a terminal
_LABEL = 12
_NAMED = 10  # classes named; of more than these the rest is counted

# A label and what is said under it.
Row = tuple[str, str]


def lines(rows: Sequence[Row]) -> list[str]:
    """Return rows as lines of at most 80 columns, the labels in a column of their own."""
    found: list[str] = []
    for label, text in rows:
        found += textwrap.wrap(
            f"{label:<{_LABEL}}{text}",
            _WIDTH,
            subsequent_indent=" " * _LABEL,
            break_on_hyphens=False,
        )
    return found


def of_set(
    class_names: Sequence[str],
    counts: Mapping[str, int],
    held_out: Mapping[str, tuple[int, int]] | None = None,
) -> list[Row]:
    """Describe a set: its classes, and the images of each split.

    Args:
        class_names: in label order.
        counts: the images of each split, by its name.
        held_out: of those that were held out of the training images: how many of how many.
    """
    names = ", ".join(class_names[:_NAMED])
    more = len(class_names) - _NAMED
    rows = [
        ("classes", f"{len(class_names):,}: {names}" + (f" and {more:,} more" if more > 0 else ""))
    ]
    for split, count in counts.items():
        text = counted(count, "image")
        if held_out is not None and split in held_out:
            part, whole = held_out[split]
            # A limit takes its images after they have been held out.
            kept = "" if part == count else f"{part:,} images, "
            text += f", held out of {counted(whole, 'training image')} ({kept}{part / whole:.1%})"
        elif held_out is not None and split != "train":
            text += ", the source's own"
        rows.append(("training" if split == "train" else split, text))
    if "validation" not in counts and held_out is not None:
        rows.append(("validation", "none"))
    return rows


def of_batches(examples: int, global_batch_size: int, replicas: int) -> Row:
    """Describe the batches of an epoch over `examples` images."""
    steps = examples // global_batch_size
    left = examples - steps * global_batch_size
    shares = f" over {replicas} replicas" if replicas > 1 else ""
    left_out = f"{counted(left, 'image')} left out of each" if left else "no image left out"
    images, number = counted(global_batch_size, "image"), counted(steps, "step")
    return "batch", f"{images}{shares}; {number} an epoch, {left_out}"


def of_phases(config: RunConfig, side: int) -> list[Row]:
    """Describe the phases of a run whose images are stored at `side` pixels."""
    several = len(config.phases) > 1
    rows = [("images", f"stored at {side}x{side} pixels")]
    for phase in config.phases:
        label = f"phase {phase.name}" if several else "phase"
        rows.append((f"{label[: _LABEL - 1]:<{_LABEL}}".rstrip(), _phase(phase, config)))
    return rows


def _phase(phase: PhaseConfig, config: RunConfig) -> str:
    size = f"{phase.image_size}x{phase.image_size}"
    if phase.start_image_size not in (None, phase.image_size):
        size = f"{phase.start_image_size}x{phase.start_image_size} growing to {size}"
    trained = "" if phase.trainable == "all" else f", trainable {phase.trainable}"
    return (
        f"{counted(phase.epochs, 'epoch')} at {size} pixels, augmentation {phase.augment}, "
        f"{config.optimizer.optimizer} at a learning rate of {phase.learning_rate:g} "
        f"({phase.schedule}){trained}"
    )


def of_machine(
    replicas: int, gpus: Sequence[str], cpu: str, precision: str, xla: bool
) -> list[Row]:
    """Describe what computes, and in which precision."""
    device = ", ".join(dict.fromkeys(gpus)) if gpus else cpu
    return [
        ("precision", f"{precision}, XLA {'on' if xla else 'off'}"),
        ("device", f"{counted(replicas, 'replica')} on {'GPU' if gpus else 'CPU'}: {device}"),
    ]
