"""What a training step asks of the device, held against what the device gives at best."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from fastcifar.bench import compute
from fastcifar.bench.reduction import elements
from fastcifar.bench.stage_names import BACKWARD, FORWARD, STEP, UPDATE
from fastcifar.bench.subject import Subject
from fastcifar.training.phase import trained_part


@dataclass(frozen=True)
class Arithmetic:
    """Of one image, on all devices together.

    Attributes:
        forward_flops: floating-point operations of the forward pass.
        forward_bytes: what its convolutions and matrix products read and write: inputs, weights and
            outputs once each. Elementwise work comes on top wherever it is not fused into them.
        update_bytes: what the update reads and writes: gradients, weights, slots, averages.
        peak_flops_per_s: of a large matrix product in the compute dtype, measured here and now.
        peak_bytes_per_s: of a large elementwise operation, likewise.
        trains_all: the backward pass is one of the whole network, which is two products of the
            forward pass's size.
    """

    forward_flops: float
    forward_bytes: float
    update_bytes: float
    peak_flops_per_s: float
    peak_bytes_per_s: float
    trains_all: bool = True

    @property
    def peaks(self) -> dict[str, float]:
        """For a row of a record."""
        return {
            "peak_flops_per_s": self.peak_flops_per_s,
            "peak_bytes_per_s": self.peak_bytes_per_s,
        }

    def achieved(self, stage: str, us_per_image: float) -> dict[str, float]:
        """What a stage achieves that takes `us_per_image`; nothing for those not counted here.

        Returns:
            flops_per_image, flops_per_s, utilisation: of the peak of a matrix product.
            intensity: FLOPs for each byte read or written.
            bytes_per_s, bandwidth_share: of the peak of memory, where a stage is nothing but that.
        """
        if stage == UPDATE:
            moved = self.update_bytes / us_per_image * 1e6
            return {"bytes_per_s": moved, "bandwidth_share": moved / self.peak_bytes_per_s}
        factors = {FORWARD: 1}
        if self.trains_all:
            factors |= {BACKWARD: compute.TRAINING_FACTOR - 1, STEP: compute.TRAINING_FACTOR}
        if stage not in factors:
            return {}
        flops = self.forward_flops * factors[stage]
        achieved = flops / us_per_image * 1e6
        return {
            "flops_per_image": flops,
            "flops_per_s": achieved,
            "utilisation": achieved / self.peak_flops_per_s,
            "intensity": self.forward_flops / self.forward_bytes,
        }


def of(subject: Subject, peak_seconds: float) -> Arithmetic:
    """Count what a step of `subject` asks for, and measure the peaks for so many seconds each."""
    prepared, chosen = subject.prepared, subject.prepared.runtime
    devices = max(1, len(chosen.gpus))
    peak = compute.measure_peak(
        chosen.compute_dtype, on_gpu=bool(chosen.gpus), seconds=peak_seconds
    )
    work = compute.forward_work(prepared.model, subject.image_shape)
    per_replica = subject.config.global_batch_size / chosen.replicas
    values = work.activations + work.weights / per_replica
    part = trained_part(prepared, subject.phase.config)
    # Read a gradient; read and write a weight, each slot and, where it is kept, its average.
    passes = 1 + 2 * (1 + len(part.slots) + bool(part.averages))
    updated = sum(v.dtype.size * elements([v]) for v in part.trainable)
    return Arithmetic(
        forward_flops=float(work.flops),
        forward_bytes=values * tf.as_dtype(chosen.compute_dtype).size,
        update_bytes=passes * updated / per_replica,
        peak_flops_per_s=peak.flops_per_s * devices,
        peak_bytes_per_s=peak.bytes_per_s * devices,
        trains_all=len(part.trainable) == len(prepared.state.trainable),
    )
