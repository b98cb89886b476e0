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

    A warm-up of W steps rises linearly (Goyal et al., "Accurate, Large Minibatch SGD", 2017): its
    i-th step has i/W of the rate, so that its last one has the rate itself. The steps after it are
    those of a phase without a warm-up:

    constant: the rate.
    cosine: half a cosine from the rate down to zero (Loshchilov and Hutter, "SGDR", 2017, without
        restarts).
    one_cycle: linear from the rate down to zero (Smith, "Super-convergence", 2018); a phase that
        names no warm-up has one over the first 30 % of its steps.

    Every step moves: zero is what the step before the first and the one after the last would have.
    """
    total = phase.epochs * steps_per_epoch
    warmup = round(phase.warmup_epochs * steps_per_epoch)
    if phase.schedule == "one_cycle":
        warmup = warmup or max(1, round(0.3 * total))
    step = np.arange(total, dtype=np.float64)
    rising = np.minimum(1.0, (step + 1) / max(1, warmup))
    through = np.clip((step - warmup) / max(1, total - warmup), 0.0, 1.0)
    falling = {
        "constant": np.ones(total),
        "cosine": 0.5 * (1 + np.cos(np.pi * through)),
        "one_cycle": 1 - through,
    }[phase.schedule]
    return (phase.learning_rate * rising * falling).astype(np.float32)
