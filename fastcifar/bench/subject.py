"""What a benchmark measures: a recipe's parts, made by the functions that training calls."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fastcifar.bench.measure import seconds_of
from fastcifar.bench.record import OK
from fastcifar.config import RunConfig
from fastcifar.data.pipeline import batches_ahead
from fastcifar.training.phase import Phase, build_step, open_batches, plan
from fastcifar.training.preparation import Prepared
from fastcifar.training.step import StepMetrics, TrainStep, read_metrics

# A benchmark never runs out of steps; the table of learning rates is what this costs (5 MB for
# 50,000 images in batches of 128).
_EPOCHS = 3000
# A piece of work, like a call in training: long enough for the call itself not to matter.
PIECE_S = 1.0


@dataclass(frozen=True)
class Subject:
    """A configuration with its parts; only its first phase is measured.

    Attributes:
        config: with more epochs than a benchmark can run through.
        prepared: see `fastcifar.training.preparation`.
        phase: the one that is measured.
    """

    config: RunConfig
    prepared: Prepared
    phase: Phase

    @classmethod
    def of(cls, config: RunConfig, prepared: Prepared) -> Subject:
        """Take the first phase of `config` for as many steps as may be asked for."""
        # What the configuration left to its weights, they have settled.
        config = dataclasses.replace(endless(config), model=prepared.config.model)
        return cls(config, prepared, plan(config, prepared)[0])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the images that the network sees."""
        size = self.phase.config.image_size
        return size, size, 3


def endless(config: RunConfig) -> RunConfig:
    """The configuration with its first phase alone, at its final size, without an end in sight."""
    phase = dataclasses.replace(config.phases[0], epochs=_EPOCHS, start_image_size=None)
    return dataclasses.replace(config, phases=(phase,))


class HeldBatch:
    """An iterator that gives one batch again and again, where it lies: on the device.

    No input pipeline takes part, so a step fed by it is what the device can do at best.

    Args:
        batch: on the devices.
        source: where it comes from, kept as long as the batch: an iterator that is let go while it
            still fetches for several devices has brought the process down.
    """

    def __init__(self, batch: Any, source: Any = None):
        self._batch = batch
        self._source = source

    def get_next(self) -> Any:
        """The batch."""
        return self._batch


def hold(subject: Subject) -> HeldBatch:
    """Take the first batch of the real pipeline and hold it on the replicas' devices."""
    batches = open_batches(subject.config, subject.prepared, subject.phase, 0)
    batch = next(batches)
    if subject.prepared.runtime.replicas == 1:
        # `next` hands it over where the pipeline left it; on a GPU this copies what is not there.
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        with tf.device(devices[0].name):
            batch = tf.nest.map_structure(tf.identity, batch)
    return HeldBatch(batch, batches)


class WrongImages(Exception):
    """A step that has counted other images than it was given."""


class Driver:
    """Runs a train step in pieces of work: calls as in training.

    Args:
        subject: gives the batch size.
        step: to run.
        batches: what feeds it: an iterator of the pipeline, or a held batch.
        counted: share of the images that the step's metrics are of: one replica's, where its
            reduction is left out.

    Attributes:
        steps: of one call.
        calls: of one piece.
        last: the metrics of the last call.
    """

    def __init__(self, subject: Subject, step: TrainStep, batches: Any, counted: float = 1.0):
        self._step = step
        self._batches = batches
        self._counted = counted
        self._global_batch_size = subject.config.global_batch_size
        self._steps_per_call = subject.config.runtime.steps_per_call
        # As many as are prefetched wait once more on a device that has a memory of its own.
        data = subject.config.data
        ahead = batches_ahead(prefetch=data.prefetch, parallel_map=data.parallel_map)
        self._prefetched = ahead + data.prefetch
        self._next = 0
        self.steps = 1
        self.calls = 1
        self.last: StepMetrics | None = None

    @property
    def mean_loss(self) -> float:
        """Of the images of the last call, in nats; NaN before the first."""
        return self.last.loss / self.last.images if self.last else math.nan

    def trace(self) -> None:
        """Trace the step without running it: the first piece then compiles and runs only."""
        self._step.trace(self._batches)

    @property
    def images(self) -> float:
        """Of one piece."""
        return float(self.calls * self.steps * self._global_batch_size)

    def run(self) -> float:
        """Run one piece; returns its images."""
        for _ in range(self.calls):
            self.last = read_metrics(self._step(self._batches, self._next, self.steps))
            self._next += self.steps
            asked = self.steps * self._global_batch_size * self._counted
            if self.last.images != asked:
                raise WrongImages(f"a call has seen {self.last.images:,.0f} of {asked:,.0f} images")
        return self.images

    def drain(self) -> None:
        """Throw away the batches that were prepared while others were measured.

        Without it the first steps of a piece would find their batches ready, and an input that is
        too slow for the device would look faster than it is.
        """
        if not isinstance(self._batches, HeldBatch):
            for _ in range(self._prefetched):
                next(self._batches)

    def calibrate(self, share: float = 1.0) -> None:
        """Trace the step, and let pieces have so many steps that they last `share` of `PIECE_S`.

        They are one call, as in training, unless the configuration fixes the steps of a call.
        """
        self.run()
        step_s = min(seconds_of(self.run) / self.steps for _ in range(2))
        self.last_for(share * PIECE_S, step_s)

    def last_for(self, seconds: float, step_s: float) -> None:
        """Let pieces last about `seconds`, where a step takes `step_s`."""
        if self._steps_per_call == "auto":
            self.steps, self.calls = max(1, round(seconds / step_s)), 1
        else:
            self.steps = int(self._steps_per_call)
            self.calls = max(1, round(seconds / step_s / self.steps))


def end_to_end(subject: Subject) -> Driver:
    """The real path: the real pipeline into the real step."""
    batches = open_batches(subject.config, subject.prepared, subject.phase, 0)
    return Driver(subject, build_step(subject.config, subject.prepared, subject.phase), batches)


def resident(subject: Subject) -> Driver:
    """The step alone: the same, fed by one batch that lies on the device."""
    step = build_step(subject.config, subject.prepared, subject.phase)
    return Driver(subject, step, hold(subject))


def finite(driver: Driver) -> str:
    """Tell whether the last piece of a driver gave an answer: a finite loss."""
    loss = driver.mean_loss
    return OK if math.isfinite(loss) else f"failed: the loss must be finite. Received: {loss}"
