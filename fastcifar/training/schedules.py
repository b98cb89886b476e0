"""Learning rates as tables: one float32 per step, computed once on the host.

The compiled step reads its rate by position, so a schedule costs nothing there, needs no
recompilation and can be plotted without TensorFlow.
"""

from __future__ import annotations

import numpy as np

from fastcifar.config import PhaseConfig

# Each size is a program of its own, and compiling one takes as long as many steps.
_MOST_SIZES = 4
_SIZE_MULTIPLE = 8


def growing_sizes(phase: PhaseConfig) -> list[tuple[int, int]]:
    """Return the image sizes of a phase and the epochs of each, in order: [(side, epochs), ...].

    A phase of one size has one entry. Otherwise the side grows evenly from `start_image_size` to
    `image_size` in at most four sizes, the later ones never for fewer epochs than the earlier
    (progressive resizing: Howard, "Training Imagenet in 3 hours", fast.ai, 2018).
    """
    if phase.start_image_size is None:
        return [(phase.image_size, phase.epochs)]
    low, high = phase.start_image_size, phase.image_size
    sides = np.linspace(low, high, min(_MOST_SIZES, phase.epochs))
    rounded = [round(side / _SIZE_MULTIPLE) * _SIZE_MULTIPLE for side in sides[1:-1]]
    distinct = sorted({low, high, *(side for side in rounded if low < side < high)})
    if phase.epochs == 1:
        distinct = [high]
    share, more = divmod(phase.epochs, len(distinct))
    first_longer = len(distinct) - more
    return [(side, share + (i >= first_longer)) for i, side in enumerate(distinct)]


def learning_rates(phase: PhaseConfig, steps_per_epoch: int) -> np.ndarray:
    """Return the learning rate of every step of `phase`: float32 [epochs * steps_per_epoch].

    constant: the rate, after a linear warm-up.
    cosine: linear warm-up to the rate, then half a cosine down to zero (Loshchilov and Hutter,
        "SGDR", 2017, without restarts).
    one_cycle: linear up to the rate over the warm-up, or where there is none over the first 30 % of
        the steps, then linear down to zero (Smith, "Super-convergence", 2018).

    Every step moves: zero is what the step after the last one would have.
    """
    total = phase.epochs * steps_per_epoch
    warmup = round(phase.warmup_epochs * steps_per_epoch)
    if phase.schedule == "one_cycle":
        warmup = warmup or max(1, round(0.3 * total))
    step = np.arange(total, dtype=np.float64)
    # (step + 1) / (warmup + 1), so that the first step already moves.
    rising = np.minimum(1.0, (step + 1) / (warmup + 1))
    through = np.clip((step - warmup) / max(1, total - warmup), 0.0, 1.0)
    falling = {
        "constant": np.ones(total),
        "cosine": 0.5 * (1 + np.cos(np.pi * through)),
        "one_cycle": 1 - through,
    }[phase.schedule]
    return (phase.learning_rate * rising * falling).astype(np.float32)
