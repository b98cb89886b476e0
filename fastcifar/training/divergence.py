"""What a run does when it diverges: end with advice, or go back and on at a lower rate."""

from __future__ import annotations

import dataclasses

import numpy as np

from fastcifar.config import RunConfig
from fastcifar.errors import DivergenceError, RunDirError
from fastcifar.training.checkpoints import Checkpoints, Progress, first_not_finite
from fastcifar.training.step import StepMetrics

# In float16 the first steps look for a loss scale: an epoch of fewer steps may be all search.
_FEWEST_STEPS = 3
_FLOAT16 = "float16 may be too narrow for these gradients, and --precision float32 is not"


def check_call(metrics: StepMetrics, last_step: int, loss_scale: float) -> None:
    """Refuse a call of steps in which the training diverged.

    Args:
        metrics: of the call.
        last_step: its last step.
        loss_scale: after it.

    Raises:
        DivergenceError: with the step and the reason.
    """
    if metrics.first_bad_step >= 0:
        raise DivergenceError(f"the loss stopped being finite at step {metrics.first_bad_step}")
    if metrics.skipped and loss_scale <= 1:
        raise DivergenceError(
            f"the loss scale reached its floor of 1 at step {last_step}, where gradients still "
            f"overflow: {_FLOAT16}"
        )


def check_epoch(epoch: int, steps: int, images: float) -> None:
    """Refuse an epoch all of whose steps loss scaling left out.

    Args:
        epoch: its number, from 1.
        steps: in it.
        images: that its updates saw.

    Raises:
        DivergenceError: with the epoch and the reason.
    """
    if not images and steps >= _FEWEST_STEPS:
        raise DivergenceError(
            f"loss scaling left out all {steps} steps of epoch {epoch}, because gradients "
            f"overflowed: {_FLOAT16}"
        )


def check_state(arrays: dict[str, np.ndarray], step: int) -> None:
    """Refuse a state in which a value is not finite, such as a weight or a moving variance.

    Raises:
        DivergenceError: with the step and the first such variable.
    """
    name = first_not_finite(arrays)
    if name is not None:
        raise DivergenceError(f"{name} was no longer finite after {step} steps")


def way_back(
    error: DivergenceError, kept: Checkpoints, progress: Progress, config: RunConfig
) -> tuple[dict[str, np.ndarray], Progress]:
    """Return the state to go on from after a divergence: (arrays, progress).

    It is that of the newest good checkpoint, with the rates scaled by `config.rollback_factor`.

    Args:
        error: why the run cannot go on from where it is.
        kept: the run's checkpoints.
        progress: of the run when it diverged.
        config: of the run.

    Raises:
        DivergenceError: with advice, if the run is to stop, has gone back often enough, or has no
            good checkpoint.
    """
    advice = "Lower --learning-rate or set --clip-norm"
    try:
        path, arrays, good = kept.newest_good()
    except RunDirError:
        again = ""
        if config.on_divergence == "stop" and not kept.paths():
            again = "; --resume --on-divergence rollback starts again and then lowers the rate"
        raise DivergenceError(
            f"{error}. {advice}, in another --run-dir; there is no good checkpoint to go back to"
            f"{again}"
        ) from error
    where = f"the newest good checkpoint is {path} (step {good.step})"
    if config.on_divergence == "stop":
        raise DivergenceError(
            f"{error}. {advice}, in another --run-dir; {where}, from which --resume "
            "--on-divergence rollback goes on at a lower rate"
        ) from error
    times = len(progress.rollbacks)
    if times >= config.max_rollbacks:
        raise DivergenceError(
            f"{error}, after {times} rollback{'s' if times > 1 else ''}, which is all that "
            f"--max-rollbacks allows. {advice}, in another --run-dir; {where}"
        ) from error
    scale = progress.rate_scale * config.rollback_factor
    rollback = {"reason": str(error), "to_step": good.step, "rate_scale": scale}
    good = dataclasses.replace(
        good,
        data=progress.data,
        rate_scale=scale,
        rollbacks=[*progress.rollbacks, rollback],
        warnings=list(progress.warnings),
    )
    return arrays, good
