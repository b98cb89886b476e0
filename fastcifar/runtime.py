"""Devices, strategy, precision and XLA: decided once, before TensorFlow touches a device.

Every automatic choice is returned with its reason (`Runtime.notes`), so that nothing is decided
silently.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from fastcifar import environment
from fastcifar.config import RuntimeConfig
from fastcifar.errors import DeviceError


@dataclass(frozen=True)
class Runtime:
    """What a run computes on.

    Attributes:
        strategy: a `tf.distribute.Strategy`; the default strategy on one replica.
        replicas: devices taking part.
        gpus: names of the GPUs in use; empty on a CPU.
        precision: the name of the Keras dtype policy.
        xla: whether the step is compiled by XLA.
        notes: one line for each choice made automatically, with its reason.
        threads: intra-op and inter-op thread counts; 0 is TensorFlow's own choice.
    """

    strategy: Any
    replicas: int
    gpus: tuple[str, ...]
    precision: str
    xla: bool
    notes: tuple[str, ...] = ()
    threads: dict[str, int] = field(default_factory=dict)

    @property
    def compute_dtype(self) -> str:
        """The dtype of activations under `precision`."""
        return self.precision.removeprefix("mixed_")

    @property
    def scales_loss(self) -> bool:
        """Whether gradients would underflow without loss scaling (float16's small exponent)."""
        return self.compute_dtype == "float16"


def choose_precision(
    asked: str, *, compute_capability: tuple[int, int] | None, cpu_flags: frozenset[str]
) -> tuple[str, str]:
    """Return (dtype policy, reason).

    Args:
        asked: the flag's value; anything but `auto` is taken as it stands.
        compute_capability: of the weakest GPU in use, or None on a CPU.
        cpu_flags: instruction sets of the CPU.
    """
    if asked != "auto":
        return asked, "asked for"
    if compute_capability is not None:
        version = ".".join(map(str, compute_capability))
        if compute_capability >= (8, 0):
            return "mixed_bfloat16", f"compute capability {version} has bfloat16 tensor cores"
        if compute_capability >= (7, 0):
            return "mixed_float16", f"compute capability {version} has float16 tensor cores"
        return "float32", f"compute capability {version} has no tensor cores"
    native = sorted(cpu_flags & {"avx512_bf16", "amx_bf16"})
    if native:
        return "mixed_bfloat16", f"this CPU computes bfloat16 natively ({', '.join(native)})"
    return "float32", "this CPU does not compute bfloat16 natively"


def choose_xla(asked: str, *, on_gpu: bool) -> tuple[bool, str]:
    """Return (compile by XLA, reason)."""
    if asked != "auto":
        return asked == "on", "asked for"
    if on_gpu:
        return True, "GPUs gain from fusion"
    return False, "XLA's CPU convolutions are slower than oneDNN's"


def setup(config: RuntimeConfig) -> Runtime:
    """Set the devices up and choose strategy, precision and XLA.

    Call it once per process, before anything else uses TensorFlow; again only with a layout that
    the devices already have.

    Raises:
        DeviceError: if the machine does not have the devices asked for, or TensorFlow has already
            been started with others.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if config.devices is not None:
        if config.devices > max(1, len(gpus)):
            raise DeviceError(
                f"devices must be at most the GPUs of this machine ({len(gpus)}). "
                f"Received: {config.devices}. To try a layout on the CPU: --logical-devices"
            )
        gpus = gpus[: config.devices]
    if gpus and config.logical_devices > 1:
        raise DeviceError(
            "logical-devices splits a CPU, and this machine has a GPU: hide it with "
            f"CUDA_VISIBLE_DEVICES=-1. Received: {config.logical_devices}"
        )
    try:
        if gpus:
            tf.config.set_visible_devices(gpus, "GPU")
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
        elif config.logical_devices > 1:
            _split_cpu(tf, config.logical_devices)
    except RuntimeError as error:
        raise DeviceError(
            "devices must be set up before TensorFlow is used in this process. "
            f"Received: {str(error).splitlines()[0]}"
        ) from error
    if config.deterministic and gpus:
        tf.config.experimental.enable_op_determinism()
        # XLA reads this when it compiles its first program.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_exclude_nondeterministic_ops=true".strip()

    kind = "GPU" if gpus else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if not gpus:
        devices = devices[: config.logical_devices]
    strategy, replicas, why = _choose_strategy(config.strategy, devices, on_gpu=bool(gpus))

    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capabilities = [d["compute_capability"] for d in details if "compute_capability" in d]
    precision, precision_why = choose_precision(
        config.precision,
        compute_capability=min(capabilities) if capabilities else None,
        cpu_flags=environment.cpu_flags(),
    )
    xla, xla_why = choose_xla(config.xla, on_gpu=bool(gpus))
    return Runtime(
        strategy=strategy,
        replicas=replicas,
        gpus=tuple(d.get("device_name", "GPU") for d in details),
        precision=precision,
        xla=xla,
        notes=(
            f"strategy: {replicas} replica{'s' if replicas > 1 else ''} on {kind} ({why})",
            f"precision: {precision} ({precision_why})",
            f"xla: {'on' if xla else 'off'} ({xla_why})",
        ),
        threads={
            "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
            "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
        },
    )


def _split_cpu(tf: Any, count: int) -> None:
    """Make `count` devices of the CPU; a process that already has that many keeps them."""
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    configured = tf.config.get_logical_device_configuration(cpu)
    if configured is None or len(configured) < count:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(cpu, parts)


def _choose_strategy(asked: str, devices: list[str], *, on_gpu: bool) -> tuple[Any, int, str]:
    import tensorflow as tf

    if asked == "auto":
        mirrored = len(devices) > 1
        why = f"{len(devices)} {'GPU' if on_gpu else 'logical device'}{'s'[: len(devices) > 1]}"
    else:
        mirrored = asked == "mirrored"
        why = "asked for"
    if not mirrored:
        return tf.distribute.get_strategy(), 1, why
    # On GPUs TensorFlow's own choice, NCCL; CPUs do not have it.
    operations = None if on_gpu else tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=operations)
    return strategy, strategy.num_replicas_in_sync, why


def peak_device_bytes() -> int | None:
    """Peak memory in use on the first GPU so far, or None on a CPU."""
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
