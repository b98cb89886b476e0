"""Evaluation of a finished or stopped run from its folder."""

from __future__ import annotations

import math
import os

import numpy as np

from fastcifar import environment, runtime
from fastcifar.config import RunConfig
from fastcifar.data.records import refusing_damage
from fastcifar.data.split import Splits, relabelled
from fastcifar.errors import RunDirError
from fastcifar.evaluation.evaluate import Evaluation, Evaluator
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints, opening, same_data, transforms
from fastcifar.training.assembly import (
    build_network,
    load_labelled,
    load_splits,
    per_replica_batch_size,
)
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.device_memory import refusing_exhaustion
from fastcifar.training.progress import Display
from fastcifar.training.state import AVERAGES, WEIGHTS, check_names
from fastcifar.wording import counted


def evaluate_run(
    run_dir: str,
    config: RunConfig,
    *,
    checkpoint: str = "auto",
    views: str = "none",
    whole: bool = False,
    allow_changed_data: bool = False,
    display: Display | None = None,
) -> tuple[Evaluation, Splits]:
    """Evaluate a run's weights on the test split of `config.data`; return it with the splits.

    What is evaluated, and the notes of the source, are shown.

    Args:
        run_dir: the run folder.
        config: the run's configuration, possibly with another source.
        checkpoint: `best` by validation accuracy, `last`, or `auto`: the best where there is one.
        views: test-time augmentation, of `fastcifar.augment.test_time.VIEWS`.
        whole: evaluate all labelled images of the image folder that `config.data` names, whose
            classes may be some of the run's; they are the test split of the result.
        allow_changed_data: evaluate although the test images are not those of the run any more.
        display: where notes and progress are shown; nowhere by default.

    Raises:
        RunDirError: if there is no such checkpoint, or it does not fit the configuration.
        SourceError: if the source's classes are not those of the run, or its test images are not.
    """
    display = display or Display(quiet=True)
    run = RunDir.open(run_dir)
    kept = Checkpoints(run.checkpoints_path)
    which, path = kept.chosen(checkpoint)
    arrays, progress = checkpoints.load(path)
    display.line(f"{which} weights, of epoch {progress.epoch} (step {progress.step}): {path}")
    phase = config.phase_at(progress.epoch)  # whose image size they were validated at
    chosen = runtime.setup(config.runtime)
    per_replica_batch_size(config.global_batch_size, chosen.replicas)
    class_names = same_data.class_names(run, progress)
    if whole:
        splits = _load_whole(run, config, class_names, display)
    else:
        splits = load_splits(config.data, seed=config.seed, progress=display.count)
    for note in splits.notes:
        display.line(f"note: {note}")
    own = not whole and same_data.same_source(config, run.read_config())
    for line in same_data.check_evaluated(run, progress, splits, own=own, allow=allow_changed_data):
        display.line(line)
    if not whole:
        display.line(f"evaluated: {counted(len(splits.test), 'image')} of the test split")
    side, size = splits.test.image_shape[0], phase.image_size
    sides = f"stored at {side}x{side} pixels, evaluated at {size}x{size}"
    rows = [
        *opening.of_set(splits.class_names, {"test": len(splits.test)}),
        ("images", f"{sides}, views {views}"),
        ("batch", counted(config.global_batch_size, "image")),
        *opening.of_machine(
            chosen.replicas, chosen.gpus, environment.cpu_name(), chosen.precision, chosen.xla
        ),
    ]
    for line in opening.lines(rows):
        display.line(line)
    with chosen.strategy.scope():
        model = build_network(config, chosen, num_classes=len(splits.class_names))
    # Where averages of the weights were kept, it is them that the run evaluates.
    weights = {
        name.removeprefix(kind): array
        for kind in (WEIGHTS, AVERAGES)
        for name, array in arrays.items()
        if name.startswith(kind)
    }
    if not weights:
        raise RunDirError(f"checkpoint {path} holds no weights")
    check_names({v.path: tuple(v.shape) for v in model.variables}, weights)
    for variable in model.variables:
        variable.assign(weights[variable.path])
    made = transforms.make(
        config.data,
        config.model,
        phase,
        train_size=phase.image_size,
        stored_size=splits.test.image_shape[:2],
        num_classes=len(splits.class_names),
        seed=config.seed,
        dtype=chosen.compute_dtype,
    )
    evaluator = Evaluator(
        model=model,
        preprocess=made.for_evaluation,
        strategy=chosen.strategy,
        xla=chosen.xla,
        global_batch_size=config.global_batch_size,
        views=views,
        hosted=chosen.hosted,
    )
    doing = f"evaluating {config.global_batch_size} images of {phase.image_size} px in a call"
    with refusing_damage(), refusing_exhaustion(doing, "Lower --global-batch-size"):
        evaluation = evaluator(splits.test)
    if not math.isfinite(evaluation.loss):
        display.line("warning: the test loss is not finite")
    return evaluation, splits


def _load_whole(
    run: RunDir, config: RunConfig, class_names: tuple[str, ...] | None, display: Display
) -> Splits:
    """Load all labelled images of a folder, labelled as the run labels its classes."""
    loaded = load_labelled(config.data, progress=display.count)
    *notes, counted = loaded.notes
    images = loaded.test
    if class_names is not None:
        images = relabelled(images, class_names)
        if len(loaded.class_names) < len(class_names):
            counted += f", of {len(loaded.class_names)} of the run's {len(class_names)} classes"
    if config.data.limit_test is not None:
        counted = f"{len(images)} of {counted}, each class in its share"
    own = run.read_config().data
    if own.source == "image_folder" and _same_path(own.data_path, config.data.data_path):
        notes.append(
            "the run was trained on images of this folder, which are among those evaluated: "
            "without --data-path its test images alone are evaluated"
        )
    nothing = images.take(np.zeros(0, dtype=np.int64))
    return Splits(train=nothing, test=images, notes=(*notes, f"evaluated: {counted}"))


def _same_path(one: str | None, other: str | None) -> bool:
    return bool(one and other) and os.path.realpath(os.path.expanduser(str(one))) == (
        os.path.realpath(os.path.expanduser(str(other)))
    )
