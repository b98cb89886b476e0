"""Growing prefixes of the step that trains, each on a batch held on the devices."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastcifar.bench import stand_ins
from fastcifar.bench.stage_names import AUGMENT, BACKWARD, DISPATCH, FORWARD, REDUCE, RESIZE, STEP
from fastcifar.bench.subject import Driver, Subject, hold, resident
from fastcifar.training import transforms
from fastcifar.training.phase import build_step, trained_part
from fastcifar.training.step import add_up

_TAKEN_OUT = {
    DISPATCH: stand_ins.without_network,
    RESIZE: stand_ins.without_network,
    AUGMENT: stand_ins.without_network,
    FORWARD: stand_ins.without_backward,
    BACKWARD: stand_ins.without_update,
    REDUCE: stand_ins.without_update,
}


def names(replicas: int) -> tuple[str, ...]:
    """The prefixes by the stage that each adds to the one before; the last one adds the update."""
    # One replica has nothing to reduce.
    between = (REDUCE,) if replicas > 1 else ()
    return (DISPATCH, RESIZE, AUGMENT, FORWARD, BACKWARD, *between, STEP)


def build(subject: Subject, name: str) -> Driver:
    """Return what runs the prefix that ends with `name`, one of `names`."""
    if name == STEP:
        return resident(subject)
    part = trained_part(subject.prepared, subject.phase.config)
    prepared, part = _TAKEN_OUT[name](subject.prepared, part)
    made = subject.phase.transforms
    if name == DISPATCH:
        made = dataclasses.replace(made, before_program=None, on_device=_nothing)
    elif name == RESIZE:
        made = _without_augmentation(subject)
    # What the host does, it does for all prefixes: they differ in the device's part.
    made = dataclasses.replace(made, on_host=subject.phase.transforms.on_host)
    phase = dataclasses.replace(subject.phase, transforms=made)
    reduce = add_up if name == REDUCE else stand_ins.without_reduction
    step = build_step(subject.config, prepared, phase, part=part, reduce=reduce)
    # The batch is that of the real pipeline, whatever is left out of the step.
    counted = 1.0 if name == REDUCE else 1 / subject.prepared.runtime.replicas
    return Driver(subject, step, hold(subject), counted)


def _nothing(images: Any, labels: Any, seed: Any, positions: Any, indices: Any) -> tuple[Any, Any]:
    return images, labels


def _without_augmentation(subject: Subject) -> transforms.Transforms:
    config = subject.config
    return transforms.make(
        config.data,
        config.model,
        dataclasses.replace(subject.phase.config, augment="none"),
        train_size=subject.phase.config.image_size,
        stored_size=subject.prepared.splits.train.image_shape[:2],
        num_classes=len(subject.prepared.splits.class_names),
        seed=config.seed,
        dtype=subject.prepared.runtime.compute_dtype,
    )
