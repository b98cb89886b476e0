"""Growing prefixes of the step that trains, each on a batch held on the device."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastcifar.bench import stand_ins
from fastcifar.bench.subject import Driver, Subject, hold, resident
from fastcifar.training import transforms
from fastcifar.training.phase import build_step

DISPATCH, RESIZE, AUGMENT = "dispatch", "resize", "augment"
FORWARD, BACKWARD, STEP = "forward", "backward", "step"
# Each adds one stage to the one before; what the last one adds is the update.
PREFIXES = (DISPATCH, RESIZE, AUGMENT, FORWARD, BACKWARD, STEP)


def build(subject: Subject, name: str) -> Driver:
    """Return what runs the prefix that ends with `name` (one of `PREFIXES`).

    Raises:
        ValueError: on several replicas, where only the whole step can be measured.
    """
    if name == STEP:
        return resident(subject)
    if subject.prepared.runtime.replicas > 1:
        raise ValueError("prefixes of the step are measured on one replica")
    prepared = {
        DISPATCH: stand_ins.without_network,
        RESIZE: stand_ins.without_network,
        AUGMENT: stand_ins.without_network,
        FORWARD: stand_ins.without_backward,
        BACKWARD: stand_ins.without_update,
    }[name](subject.prepared)
    made = subject.phase.transforms
    if name == DISPATCH:
        made = dataclasses.replace(made, before_program=None, on_device=_nothing)
    elif name == RESIZE:
        made = _without_augmentation(subject)
    # What the host does, it does for all prefixes: they differ in the device's part.
    made = dataclasses.replace(made, on_host=subject.phase.transforms.on_host)
    phase = dataclasses.replace(subject.phase, transforms=made)
    # The batch is that of the real pipeline, whatever is left out of the step.
    return Driver(subject, build_step(subject.config, prepared, phase), hold(subject))


def _nothing(images: Any, labels: Any, seed: Any, positions: Any) -> tuple[Any, Any]:
    return images, labels


def _without_augmentation(subject: Subject) -> transforms.Transforms:
    config = subject.config
    return transforms.make(
        config.data,
        config.model,
        dataclasses.replace(subject.phase.config, augment="none"),
        train_size=subject.phase.config.image_size,
        num_classes=len(subject.prepared.splits.class_names),
        seed=config.seed,
        dtype=subject.prepared.runtime.compute_dtype,
    )
