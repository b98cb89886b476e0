"""The train step: one compiled program for every layout.

On one replica the whole step is one program: augment, resize, normalise, forward, loss, backward,
update. On several it is: the same program up to the gradients, packed into one vector with the new
BatchNorm statistics and the metrics; ONE reduction of that vector; a second compiled program that
unpacks and updates each replica's own copy of the variables. k steps run in one call from the host.

Why not `model.fit`: under MirroredStrategy it refuses or crashes with XLA, and with several steps
per call (docs/architecture.md). What makes it work here: XLA compiles only functions of tensors and
of variables on one device, so the reduction stands between the programs, not in them; and the
network is called by `model.stateless_call`, so no variable is captured from another device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fastcifar.data.pipeline import Batch, gather_bytes
from fastcifar.models.dropout import dropout_keys
from fastcifar.models.losses import correct, cross_entropy
from fastcifar.runtime import on_each_device, replica_here
from fastcifar.training.backward import Backward
from fastcifar.training.exchange import Exchange, Results, add_up
from fastcifar.training.optimizers import Optimizer
from fastcifar.training.program import Program
from fastcifar.training.state import TrainState, local_copy
from fastcifar.training.trained_part import TrainedPart, whole

# (images, labels, seed, positions, indices) -> (images ready for the network, labels)
Transform = Callable[..., tuple[tf.Tensor, tf.Tensor]]
# (number of a step int32 [], the learning rates of all steps float32 [steps])
Step = tuple[tf.Tensor, tf.Tensor]
# (a replica's context, its vectors) -> their sums over all replicas
Reduce = Callable[[Any, Sequence[tf.Tensor]], list[tf.Tensor]]

# Of a batch's epoch; what is above them is a seed that comes with it.
_EPOCH_BITS = 32

# Dynamic loss scaling doubles after this many good steps and halves on an overflow (Micikevicius et
# al., "Mixed Precision Training", 2018).
GROWTH_INTERVAL = 2000


class StepMetrics(NamedTuple):
    """Sums over the steps of one call, on the host.

    Attributes:
        loss: sum of the losses of the images.
        correct: images classified correctly.
        images: images that updates were made from; those of skipped steps count in no sum.
        skipped: steps left out because a scaled gradient overflowed.
        first_bad_step: the first step that was not skipped whose loss was not finite, or -1.
    """

    loss: float
    correct: float
    images: float
    skipped: float
    first_bad_step: int


def with_seed(batch: Batch, seed: int) -> Batch:
    """The batch with the seed of its run above the bits of its epoch: one step for many seeds."""
    return batch._replace(epoch=batch.epoch + (seed << _EPOCH_BITS))


class TrainStep:
    """k training steps per call, on every replica of a strategy.

    Args:
        state: model and optimizer variables.
        part: what of them is trained; all by default.
        optimizer: applies the gradients.
        transform: augmentation, resizing and normalisation, compiled into the program.
        learning_rates: float32 [steps], of the steps from `first_step` on.
        first_step: the step that `learning_rates` starts at.
        strategy: the distribution strategy under whose scope `state` was made.
        xla: compile by XLA.
        global_batch_size: images in one step.
        seed: of augmentation and dropout; None if it comes with the batches (`with_seed`).
        label_smoothing, clip_norm, accumulate, ema: see `fastcifar.config.OptimizerConfig`.
        scale_loss: dynamic loss scaling (float16).
        reduce_dtype: what gradients are added up in across replicas.
        overlapped: add them up within one program, a stage at a time during the backward pass.
        sync_batch_norm: the network's BatchNorm talks to the other replicas.
        reduce: adds the replicas' vectors up; a benchmark leaves the talk between them out.
        before: a transform that XLA cannot compile, run in a graph before the program.
        resident: images on the devices (one value per replica) that `Batch.images` indexes.
    """

    def __init__(
        self,
        *,
        state: TrainState,
        optimizer: Optimizer,
        transform: Transform,
        learning_rates: np.ndarray,
        first_step: int,
        strategy: Any,
        xla: bool,
        global_batch_size: int,
        seed: int | None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        scale_loss: bool = False,
        reduce_dtype: str = "float32",
        overlapped: bool = False,
        sync_batch_norm: bool = False,
        reduce: Reduce = add_up,
        before: Transform | None = None,
        resident: Any = None,
        part: TrainedPart | None = None,
    ):
        self._state = state
        self._part = part or whole(state)
        self._optimizer = optimizer
        self._transform = transform
        self._strategy = strategy
        self._xla = xla
        self._replicas = strategy.num_replicas_in_sync
        self._hosted = len(strategy.experimental_local_results(state.updates))
        self._global_batch_size = global_batch_size
        self._seed = seed
        self._label_smoothing = label_smoothing
        self._clip_norm = clip_norm
        self._accumulate = accumulate
        self._ema = ema
        self._scale_loss = scale_loss
        self._sync_batch_norm = sync_batch_norm
        self._overlapped = overlapped
        self._backward = Backward(self._part, by_stage=overlapped, ordered=xla)
        self._exchange = Exchange(self._part, self._backward.buckets, reduce_dtype)
        self._reduce = reduce
        self._before = before
        self._resident = resident
        self._first_step = first_step
        # On each device, as all that a step reads: one copy would travel to the others every step.
        self._learning_rates = on_each_device(np.asarray(learning_rates, np.float32), strategy)

        part = self._part
        variables = [
            *part.trainable,
            *part.others,
            *part.averages,
            *(variable for slots in part.slots.values() for variable in slots),
            *(state.updates, state.loss_scale, state.good_steps),
        ]

        # One trace for all replicas reaches those of this host; and without XLA, vectors of any way
        # to reduce are added up by the strategy, which brings the replicas' traces together.
        several_hosts = self._hosted < self._replicas
        apart = (sync_batch_norm and several_hosts) or (overlapped and not xla)

        def compiled(function: Callable[..., Any]) -> Program:
            return Program(function, variables, strategy, xla=xla, shared=not apart)

        self._whole = compiled(self._whole_step)
        self._compute = compiled(self._packed_gradients)
        self._update = compiled(self._unpack_and_update)
        self._call = tf.function(self._steps, autograph=False)

    def __call__(self, iterator: Any, first_step: int, steps: int) -> tf.Tensor:
        """Run `steps` steps on the next batches of `iterator`; the first is step `first_step`.

        Returns a float64 vector on the device for `read_metrics`; the call may still be running.
        """
        if not self.traces:
            self.trace(iterator)
        # int32, whose arithmetic TensorFlow does on the host: to count on the device would make the
        # host wait for it after every step, to be told whether there is another one.
        return self._call(iterator, tf.constant(first_step), tf.constant(first_step + steps))

    def trace(self, iterator: Any) -> None:
        """Trace the step for batches like those of `iterator`, and run nothing."""
        any_step = tf.TensorSpec([], tf.int32)
        # Around all of the tracing: under MirroredStrategy, replicas are traced by threads in turn,
        # and one that left would take the frozen layers from the others.
        with self._part.entered():
            self._call.get_concrete_function(iterator, any_step, any_step)

    def hlo(self, batch: Any) -> str:
        """The program that XLA is given for one step on one replica, before any optimisation.

        Args:
            batch: the `TensorSpec`s of its batches.
        """
        step = (tf.TensorSpec([], tf.int32), tf.TensorSpec(self._learning_rates.shape, tf.float32))
        specs = [batch, step]

        def program(*flat: tf.Tensor) -> tf.Tensor:
            local = local_copy(self._strategy, 0)
            return self._whole_step(local, *tf.nest.pack_sequence_as(specs, flat))

        compiled = tf.function(program, jit_compile=True, autograph=False)
        return compiled.experimental_get_compiler_ir(*tf.nest.flatten(specs))(stage="hlo")

    @property
    def traces(self) -> int:
        """How often the step has been traced: 1, unless something retraces."""
        return self._call.experimental_get_tracing_count()

    def _steps(self, iterator: Any, first_step: tf.Tensor, last_step: tf.Tensor) -> tf.Tensor:
        def one(step: tf.Tensor, totals: tf.Tensor, bad: tf.Tensor) -> tuple[tf.Tensor, ...]:
            batch = iterator.get_next()
            arguments = (batch, (step, self._learning_rates), self._resident)
            metrics = self._strategy.run(self._replica_step, args=arguments)
            metrics = self._strategy.experimental_local_results(metrics)[0]
            applied = tf.equal(metrics[3], 0)
            first_bad = (bad < 0) & applied & ~tf.math.is_finite(metrics[0])
            bad = tf.where(first_bad, tf.cast(step, tf.float64), bad)
            # A step that was left out has taught nothing, and its loss is often not finite.
            metrics = tf.where(applied, metrics, tf.constant([0.0, 0.0, 0.0, 1.0]))
            return step + 1, totals + tf.cast(metrics, tf.float64), bad

        _, totals, bad = tf.while_loop(
            lambda step, *_: step < last_step,
            one,
            (first_step, tf.zeros([4], tf.float64), tf.constant(-1.0, tf.float64)),
            parallel_iterations=1,
        )
        return tf.concat([totals, [bad]], axis=0)

    def _replica_step(self, batch: Batch, step: Step, resident: Any) -> tf.Tensor:
        """One step on one replica; returns the metrics of the global batch: float32 [4]."""
        replica = replica_here(self._hosted)
        if self._before is not None:
            batch, resident = self._run_before(self._before, batch, resident), None
        extra = () if resident is None else (resident,)
        if self._replicas == 1 or self._overlapped:
            return self._whole(replica, batch, step, *extra)
        packed = self._compute(replica, batch, *extra)
        # One reduction of one vector: its latency is paid once a step, not once a variable.
        packed = self._reduce(tf.distribute.get_replica_context(), packed)
        return self._update(replica, packed, step)

    def _run_before(self, transform: Transform, batch: Batch, resident: Any) -> Batch:
        images = batch.images if resident is None else gather_bytes(resident, batch.images)
        images, labels = transform(
            images, batch.labels, self._key(batch), batch.positions, batch.indices
        )
        return batch._replace(images=images, labels=labels)

    def _key(self, batch: Batch) -> tf.Tensor:
        """What keys the randomness of a batch: int64 [2], (seed of the run, epoch)."""
        if self._seed is None:
            return tf.stack([batch.epoch // 2**_EPOCH_BITS, batch.epoch % 2**_EPOCH_BITS])
        return tf.stack([tf.constant(self._seed, tf.int64), batch.epoch])

    # The three functions below are what XLA compiles. `local` gives this replica's variables.

    def _whole_step(self, local: Any, batch: Batch, step: Step, *resident: Any) -> tf.Tensor:
        results = self._gradients(local, batch, *resident)
        if self._replicas > 1:
            vectors = self._exchange.pack(self._share(results))
            vectors = self._reduce(tf.distribute.get_replica_context(), vectors)
            results = self._exchange.unpack(vectors)
        return self._apply(local, results, step)

    def _packed_gradients(self, local: Any, batch: Batch, *resident: Any) -> list[tf.Tensor]:
        return self._exchange.pack(self._share(self._gradients(local, batch, *resident)))

    def _unpack_and_update(self, local: Any, packed: Sequence[tf.Tensor], step: Step) -> tf.Tensor:
        return self._apply(local, self._exchange.unpack(packed), step)

    def _share(self, results: Results) -> Results:
        """What a replica adds: the mean of the statistics is the sum of shares of them."""
        shares = [value / self._replicas for value in results.statistics]
        return results._replace(statistics=shares)

    def _gradients(self, local: Any, batch: Batch, *resident: Any) -> Results:
        """This replica's share of the gradients, the new statistics it updates, its metrics [3]."""
        parameters = [local(v).read_value() for v in self._part.trainable]
        others = [local(v).read_value() for v in self._part.others]
        updated = self._part.updated
        parts = self._accumulate
        if parts == 1:
            return self._backpropagate(local, parameters, others, batch, *resident)

        def split(tensor: tf.Tensor) -> tf.Tensor:
            return tf.reshape(tensor, [parts, tensor.shape[0] // parts, *tensor.shape[1:]])

        images, labels, positions, indices = map(
            split, (batch.images, batch.labels, batch.positions, batch.indices)
        )

        def add_part(
            i: Any, total: list[tf.Tensor], statistics: list[tf.Tensor], metrics: tf.Tensor
        ) -> tuple[Any, list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
            part = Batch(images[i], labels[i], positions[i], batch.epoch, indices[i])
            seen = list(others)
            for place, value in zip(updated, statistics, strict=True):
                seen[place] = value
            found = self._backpropagate(local, parameters, seen, part, *resident)
            total = [a + b for a, b in zip(total, found.gradients, strict=True)]
            return i + 1, total, found.statistics, metrics + found.metrics

        statistics = [others[place] for place in updated]
        state = (0, [tf.zeros_like(p) for p in parameters], statistics, tf.zeros([3]))
        if self._sync_batch_norm:
            # TensorFlow allows no talk between replicas inside a loop of one of them.
            for _ in range(parts):
                state = add_part(*state)
        else:
            # A loop, so that one part's activations are in memory at a time.
            state = tf.while_loop(lambda i, *_: i < parts, add_part, state, parallel_iterations=1)
        return Results(*state[1:])

    def _backpropagate(
        self,
        local: Any,
        parameters: list[tf.Tensor],
        others: list[tf.Tensor],
        batch: Batch,
        *resident: Any,
    ) -> Results:
        """Forward and backward on `batch`: gradients, new statistics, metrics [3]."""
        gather = tf.gather if self._xla else gather_bytes
        images = gather(resident[0], batch.images) if resident else batch.images
        key = self._key(batch)
        images, labels = self._transform(images, batch.labels, key, batch.positions, batch.indices)
        with (
            dropout_keys(key, batch.positions),
            self._backward.tape() as tape,
        ):
            tape.watch(parameters)
            logits, others, ends = self._backward.forward(parameters, others, images)
            losses = cross_entropy(logits, labels, self._label_smoothing)
            loss = tf.reduce_sum(losses)
            objective = loss / self._global_batch_size
            if self._scale_loss:
                objective *= tf.cast(local(self._state.loss_scale).read_value(), objective.dtype)
        gradients = self._backward.gradients(tape, objective, parameters, ends)
        metrics = tf.stack(
            [
                tf.cast(loss, tf.float32),
                tf.reduce_sum(correct(logits, labels)),
                tf.cast(tf.shape(logits)[0], tf.float32),
            ]
        )
        statistics = [tf.convert_to_tensor(others[place]) for place in self._part.updated]
        return Results(gradients, statistics, metrics)

    def _apply(self, local: Any, results: Results, step: Step) -> tf.Tensor:
        """Update this replica's variables from the global gradients; returns metrics [4]."""
        gradients, statistics, metrics = results
        state, part = self._state, self._part
        updates = local(state.updates)
        number, rates = step
        rate = tf.gather(rates, number - self._first_step)

        def update() -> tf.Tensor:
            self._optimizer.apply(
                [local(v) for v in part.trainable],
                {name: [local(v) for v in slots] for name, slots in part.slots.items()},
                self._clipped(gradients),
                decay=part.decay,
                learning_rate=rate,
                rate_factors=part.rate_factors,
                updates=updates.read_value(),
            )
            for variable, value in zip(part.statistics, statistics, strict=True):
                local(variable).assign(value)
            updates.assign_add(1)
            if self._ema is not None and part.averages:
                self._average(local, self._ema)
            return tf.constant(0.0)

        if not self._scale_loss:
            skipped = update()
        else:
            scale, good = local(state.loss_scale), local(state.good_steps)
            gradients = [g / tf.cast(scale.read_value(), g.dtype) for g in gradients]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
            skipped = tf.cond(finite, update, lambda: tf.constant(1.0))
            grown = finite & (good.read_value() + 1 >= GROWTH_INTERVAL)
            factor = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5)
            scale.assign(tf.maximum(scale.read_value() * factor, 1.0))
            good.assign(tf.where(finite & ~grown, good.read_value() + 1, 0))
        return tf.concat([metrics, [skipped]], axis=0)

    def _average(self, local: Any, decay: float) -> None:
        """Move the averages towards the variables; faster at first, so that they forget the start.

        The warm-up is that of `tf.train.ExponentialMovingAverage` with `num_updates`.
        """
        part = self._part
        updates = tf.cast(local(self._state.updates).read_value(), tf.float32)
        decay = tf.minimum(decay, (1.0 + updates) / (10.0 + updates))
        for average, variable in zip(
            part.averages, (*part.trainable, *part.statistics), strict=True
        ):
            old, new = local(average).read_value(), local(variable).read_value()
            local(average).assign_sub(tf.cast(1.0 - decay, old.dtype) * (old - new))

    def _clipped(self, gradients: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        if self._clip_norm is None:
            return gradients
        clipped, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        return clipped


def read_metrics(totals: tf.Tensor) -> StepMetrics:
    """Bring a call's totals to the host; waits until the call is finished."""
    loss, right, images, skipped, bad = (float(value) for value in totals.numpy())
    return StepMetrics(loss, right, images, skipped, int(bad))
