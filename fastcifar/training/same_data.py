"""A run knows its data: what it was trained on is kept with it, and compared before going on.

`--resume` wants the same classes and images, `evaluate` the same classes and, from the source of
the run, the same test images; a run that starts from the weights of another must not be tested on
images that these have been trained on. Images that differ may be allowed, classes may not: labels
would mean something else, and nothing would show it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.config import RunConfig
from fastcifar.data.identity import Identity, identify, other_classes, other_images
from fastcifar.data.split import Examples, Splits
from fastcifar.errors import SourceError
from fastcifar.rundir import RunDir
from fastcifar.training.checkpoints import Progress

_ALLOW = "add --allow-changed-data"
# Fields of the data's configuration that decide where images lie meanwhile, not which they are.
_OF_THE_MACHINE = ("memory_budget", "cache", "prefetch", "parallel_map")


# Of `fastcifar.training.assembly.named_run`: the folder of a run, and which of its weights.
NamedRun = tuple[Path, str]


def describe(splits: Splits, weights: NamedRun | None) -> dict[str, np.ndarray]:
    """Return what a run folder keeps of its data, as arrays (`RunDir.write_data`).

    Beside the identity these are the digests of all images that its weights have been trained on,
    those of the run that they come from included.
    """
    seen = [splits.train.digests]
    before = None if weights is None else RunDir(weights[0]).read_data()
    return _arrays(identify(splits), seen if before is None else [*seen, before["seen"]])


def check_resumed(
    run: RunDir, progress: Progress, splits: Splits, *, allow: bool, write: bool
) -> tuple[list[str], list[str]]:
    """Compare what a stopped run was trained on with what it would go on with.

    Args:
        run: what to go on with.
        progress: of the checkpoint to go on from; of the start where there is none yet.
        splits: what it would go on with.
        allow: go on with other images.
        write: keep in the run folder what it has been trained on then.

    Returns:
        (lines to show, warnings for the summary).

    Raises:
        SourceError: if the classes differ, or the images and that is not allowed.
    """
    now = identify(splits)
    before = progress.data or _identity(run)
    if before is None:
        return [_UNKNOWN.format(run.path)], []
    _check_classes(before["class_names"], now["class_names"], f"those of the run {run.path}")
    differences = other_images(before, now)
    if not differences:
        return [], []
    listed = "; ".join(differences)
    if not allow:
        raise SourceError(
            f"a resumed run must have the images it was started with. Received: {listed}. Bring "
            f"them back, or {_ALLOW} to go on with these"
        )
    if write:
        stored = run.read_data()
        seen = [splits.train.digests] if stored is None else [splits.train.digests, stored["seen"]]
        run.write_data(**_arrays(now, seen))
    return [], [f"resumed at step {progress.step} with other images: {listed}"]


def check_evaluated(
    run: RunDir, progress: Progress, splits: Splits, *, own: bool, allow: bool
) -> list[str]:
    """Compare what a run was trained on with what it is to be evaluated on; return lines to show.

    Args:
        run, progress: the run and the checkpoint to evaluate.
        splits: its test split is what to evaluate on.
        own: the test images are to be those of the run.
        allow: evaluate on them although they are not.

    Raises:
        SourceError: if the classes differ, or the test images should not and do.
    """
    names, notes = class_names(run, progress), []
    if names is None:
        notes.append(_UNKNOWN.format(run.path))
    else:
        _check_classes(names, splits.class_names, f"those of the run {run.path}")
    if progress.data and own:
        differences = other_images(progress.data, identify(splits), ["test"])
        listed = "; ".join(differences)
        if differences and not allow:
            raise SourceError(
                f"the test images must be those of the run {run.path}. Received: {listed}. Bring "
                f"them back, or {_ALLOW} to evaluate on these"
            )
        notes += [f"warning: the test images are not those of the run: {listed}"] * bool(listed)
    stored = run.read_data()
    seen = 0 if stored is None else _count(splits.test, stored["seen"], ())
    if seen:
        notes.append(
            f"warning: {seen:,} of the {len(splits.test):,} images are ones that the run was "
            "trained on"
        )
    return notes


def check_weights(weights: NamedRun | None, splits: Splits, *, allow: bool) -> tuple[str, ...]:
    """Compare what the weights of another run were trained on with this run's held-out images.

    Images that this run trains on as well do not count: the weights are not to blame for them.

    Args:
        weights: the run whose weights this one starts from; None where they are of none.
        splits: of this run.
        allow: go on all the same.

    Returns:
        warnings for the summary.

    Raises:
        SourceError: if test images of this run were training images, and that is not allowed.
    """
    stored = None if weights is None else RunDir(weights[0]).read_data()
    if weights is None or stored is None:
        return ()
    warnings: tuple[str, ...] = ()
    for name, split in (("test", splits.test), ("validation", splits.validation)):
        count = 0 if split is None else _count(split, stored["seen"], splits.train.digests)
        if split is None or not count:
            continue
        found = (
            f"{count:,} of the {len(split):,} {name} images are ones that {weights[0]} was "
            "trained on"
        )
        if name == "test" and not allow:
            raise SourceError(
                f"the test images must be new to the weights. Received: {found}. Hold out the "
                f"same images in both runs (the same folder and limits), or {_ALLOW} to go on"
            )
        warnings += (f"{found}: accuracy on them says too much",)
    return warnings


def class_names(run: RunDir, progress: Progress) -> tuple[str, ...] | None:
    """The class names of a run, finished or not; None where an older version has not kept them."""
    names = progress.data.get("class_names") or (run.read_summary() or {}).get("class_names")
    return None if names is None else tuple(names)


_UNKNOWN = (
    "note: {} does not say what it was trained on (an older version wrote it): whether the data is "
    "the same is not checked"
)


def _check_classes(before: Any, now: Any, whose: str) -> None:
    difference = other_classes(before, now)
    if difference is not None:
        raise SourceError(f"the classes must be {whose}, in the same order. Received: {difference}")


def same_source(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configurations ask for the same images."""
    asked = [
        {"seed": config.seed}
        | {name: v for name, v in vars(config.data).items() if name not in _OF_THE_MACHINE}
        for config in (one, other)
    ]
    return asked[0] == asked[1]


def _count(split: Examples, seen: np.ndarray, but: Any) -> int:
    """How many images of `split` are in `seen`, but for those in `but`."""
    digests = split.digests
    return int((np.isin(digests, seen) & ~np.isin(digests, np.asarray(but, np.uint64))).sum())


def _arrays(identity: Identity, seen: list[np.ndarray]) -> dict[str, np.ndarray]:
    encoded = np.frombuffer(json.dumps(identity).encode(), np.uint8)
    return {"identity": encoded, "seen": np.unique(np.concatenate(seen))}


def _identity(run: RunDir) -> Identity | None:
    stored = run.read_data()
    return None if stored is None else json.loads(stored["identity"].tobytes())
