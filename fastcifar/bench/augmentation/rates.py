"""Each operation and each policy alone: ours against the layers of KerasCV and Keras.

All are functions on the same uint8 batch, give float32 images of the same size, and are called one
after the other from Python: once as a graph, and once compiled by XLA where it accepts them. All of
one operation take turns, but for those that are too slow for that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment import policies
from fastcifar.augment.build import build
from fastcifar.bench import measure
from fastcifar.bench.augmentation import peers, references
from fastcifar.bench.augmentation.names import LIBRARIES, OURS, compiled, row_name, subjects
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.record import OK

CLASSES = 10
_SEED = np.array([0, 0], np.int64)
# Long against the clock and the call, short enough for many rounds of forty operations.
_PIECE_S = 0.05
# What takes this long a call is measured by itself, or it would leave the others a round or two.
_SLOW_S = 0.5
_SLOW_ROUNDS = 3
# Interpolation may leave 0..255 by what float32 rounds.
_SLACK = 0.01
# (uint8 images [B, h, w, 3], float32 labels [B, C]) -> float32 images [B, H, W, 3], labels [B, C];
# when timed, also (seed int64 [2], positions int64 [B]), which layers have no use for.
Function = Callable[..., tuple[Any, Any]]


@dataclass(frozen=True)
class RatesPlan:
    """What to measure.

    Attributes:
        source_size, image_size: side in pixels of the images that come and that go.
        global_batch_size: images in a batch.
        seconds: for all rounds together, start-up apart.
        rounds: of one operation, at most.
        only: names of operations and policies; all if empty.
    """

    source_size: int = 32
    image_size: int = 32
    global_batch_size: int = 128
    seconds: float = 120.0
    rounds: int | None = None
    only: tuple[str, ...] = ()


def measure_rates(plan: RatesPlan, put: Callable[..., None]) -> None:
    """Measure one operation after the other; `put(*rows)` receives its rows after every round."""
    chosen = {name: s for name, s in subjects().items() if not plan.only or name in plan.only}
    for name, (section, policy) in chosen.items():
        measured = []
        for where, xla in ((section, False), (compiled(section), True)):
            measured.append(ours(row_name(where, name, OURS), policy, plan, xla=xla))
            for library in LIBRARIES:
                if policy.operations and all(peers.peer(o, library) for o in policy.operations):
                    row = row_name(where, name, library)
                    measured.append(theirs(row, policy, library, plan, xla=xla))
        _interleave(measured, plan.seconds / len(chosen), plan.rounds, put)


class Measured:
    """A function on a batch that is held in memory.

    Args:
        name: of its row.
        make: makes the function; what it holds, such as layers, is made once.
        agrees: tells whether it does what it is meant to.
        plan: gives the batch and the size of the output.
        xla: compile it.
        differs: how its definition differs from ours, or empty.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Function],
        agrees: Callable[[], str],
        plan: RatesPlan,
        *,
        xla: bool,
        differs: str = "",
    ):
        self.name = name
        self._make = make
        self._agrees = agrees
        self._plan = plan
        self._xla = xla
        self._calls = 1
        self.slow = False
        self.figures: dict[str, Any] = {"differs": differs} if differs else {}

    def prepared(self) -> Contender:
        """Check it now, so that `slow` is known; the contender's own check tells how that went."""
        try:
            found = self.check()
        except Exception as error:
            return Contender(self.name, self.run, check=partial(_raise, error))
        return Contender(self.name, self.run, check=lambda: found)

    def check(self) -> str:
        """Trace or compile, look at the answer, and find out how many calls fill a piece."""
        self._function = tf.function(self._make(), jit_compile=True if self._xla else None)
        self._batch = held_batch(self._plan)
        began = time.perf_counter()
        why_not = why_not_compiled(self.run) if self._xla else ""
        if why_not:
            return f"not applicable: {why_not}"
        images, _ = self._function(*self._batch)
        self.figures["startup_s"] = time.perf_counter() - began
        size = self._plan.image_size
        found = judge_images(images, (self._plan.global_batch_size, size, size, 3))
        if found == OK:
            found = self._agrees()
        seconds = min(measure.seconds_of(self.run) for _ in range(2))
        self.slow = seconds > _SLOW_S
        self._calls = max(1, round(_PIECE_S / seconds))
        return found

    def run(self) -> float:
        """Run one piece of work; returns its images."""
        for _ in range(self._calls):
            images, _ = self._function(*self._batch)
        # Calls finish in order; reading one value waits for the last.
        images[-1, -1, -1, -1].numpy()
        return float(self._calls * self._plan.global_batch_size)


def held_batch(plan: RatesPlan) -> tuple[tf.Tensor, ...]:
    """What functions are called with: random images, one-hot labels, seed and positions.

    All are arguments: what is a constant in a graph, such as numbers drawn for fixed positions, is
    computed when it is compiled, and would be missing from the time.
    """
    shape = (plan.global_batch_size, plan.source_size, plan.source_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = tf.one_hot(tf.range(len(images)) % CLASSES, CLASSES)
    return tf.constant(images), labels, tf.constant(_SEED), tf.range(len(images), dtype=tf.int64)


def judge_images(images: tf.Tensor, shape: tuple[int, ...], dtype: Any = tf.float32) -> str:
    """Tell whether images are of a shape and dtype, finite, and within 0..255."""
    if images.dtype != dtype or tuple(images.shape) != shape:
        return (
            f"failed: {dtype.name} {shape} is wanted. Received: {images.dtype.name} {images.shape}"
        )
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not (-_SLACK <= low <= high <= 255 + _SLACK):  # false for NaN too
        return f"failed: values must lie in 0..255. Received: {low:.4g}..{high:.4g}"
    return OK


def why_not_compiled(call: Callable[[], object]) -> str:
    """Return the reason for which a call of a compiled function fails, or nothing if it works."""
    try:
        call()
    except Exception as error:
        text = str(error)
        kernels = re.findall(r"No registered '(\w+)' OpKernel for XLA", text)
        if kernels:
            return f"{kernels[0]} has no XLA kernel"
        return " ".join(text.split()[:10])
    return ""


def our_function(policy: policies.Policy, image_size: int, classes: int = CLASSES) -> Function:
    """A policy of ours in the form of all functions that are measured."""
    augment = build(policy, image_size=(image_size, image_size), num_classes=classes)

    def function(
        images: Any, labels: Any, seed: Any = _SEED, positions: Any = None
    ) -> tuple[Any, Any]:
        if positions is None:
            positions = np.arange(len(images))
        # Policies that do not mix take class numbers, and hand them through.
        given = labels if policy.mixes else positions
        made, mixed = augment(images, given, seed, positions, indices=positions)
        return made, mixed if policy.mixes else labels

    return function


def ours(name: str, policy: policies.Policy, plan: RatesPlan, *, xla: bool) -> Measured:
    """A policy of ours, held against the reference where it is one operation."""

    def apply(operation: op.Operation) -> Function:
        only = policies.Policy("reference", (operation,))
        return our_function(only, references.SIZE, references.COUNT)

    return Measured(
        name,
        lambda: our_function(policy, plan.image_size),
        lambda: _agree(policy, apply),
        plan,
        xla=xla,
    )


def theirs(
    name: str, policy: policies.Policy, library: str, plan: RatesPlan, *, xla: bool
) -> Measured:
    """The layers of a library that has one for each operation of a policy."""
    sizes = (plan.source_size,) * 2, (plan.image_size,) * 2
    small = (references.SIZE,) * 2
    differs = peers.differences(policy.operations, library)

    def apply(operation: op.Operation) -> Function:
        return peers.make([operation], library, small, small)

    return Measured(
        name,
        lambda: peers.make(policy.operations, library, *sizes),
        lambda: OK if differs else _agree(policy, apply),
        plan,
        xla=xla,
        differs=differs,
    )


def _agree(policy: policies.Policy, apply: references.Apply) -> str:
    # Compositions are for the tests of fastcifar.augment.
    alone = len(policy.operations) == 1
    return references.agrees(policy.operations[0], apply) if alone else OK


def _raise(error: Exception) -> str:
    raise error


def _interleave(
    measured: list[Measured], seconds: float, rounds: int | None, put: Callable[..., None]
) -> None:
    contenders = {one.name: one.prepared() for one in measured}

    def report(laps: dict[str, Lap]) -> None:
        rows = []
        for one in measured:
            if one.name in laps:
                section, what, whose = one.name.split("/")
                others = [row_name(section, what, library) for library in LIBRARIES]
                others += [measured[0].name] if one is not measured[0] else []
                ratios_to = others if whose == OURS else []
                rows.append(measure.row(laps, one.name, ratios_to=ratios_to, **one.figures))
        put(*rows)

    few = min(rounds or _SLOW_ROUNDS, _SLOW_ROUNDS)
    for slow, limit in ((False, rounds), (True, few)):
        group = [contenders[one.name] for one in measured if one.slow == slow]
        if group:
            measure.interleave(group, seconds=seconds, rounds=limit, after_round=report)
