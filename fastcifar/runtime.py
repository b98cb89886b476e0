"""Devices, strategy, precision and XLA: decided once, before TensorFlow touches a device.

Every automatic choice is returned with its reason (`Runtime.notes`), so that nothing is decided
silently.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcifar import environment, rendezvous, surroundings
from fastcifar.cluster import Cluster, note_if_alone, read_cluster
from fastcifar.config import RuntimeConfig, parse_bytes
from fastcifar.errors import DeviceError


@dataclass(frozen=True)
class Runtime:
    """What a run computes on.

    Attributes:
        strategy: a `tf.distribute.Strategy`; the default strategy on one replica.
        replicas: devices taking part, on all hosts.
        hosted: the numbers of those that this process feeds: all but on several hosts.
        cluster: the hosts' workers, or None where this process trains alone.
        gpus: names of the GPUs in use; empty on a CPU.
        precision: the name of the Keras dtype policy.
        xla: whether the step is compiled by XLA.
        notes: one line for each choice made automatically, with its reason.
        warnings: what the run's summary should tell of the machine.
        threads: intra-op and inter-op thread counts; 0 is TensorFlow's own choice.
    """

    strategy: Any
    replicas: int
    gpus: tuple[str, ...]
    precision: str
    xla: bool
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    threads: dict[str, int] = field(default_factory=dict)
    hosted: range = range(1)
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.cluster is None or self.cluster.index == 0

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


def prepare_environment(config: RuntimeConfig) -> None:
    """Set what TensorFlow reads when it is imported; call it before that.

    Raises:
        DeviceError: if TensorFlow has been imported already and what it read was something else, or
            the folder of the compile cache cannot be used.
    """
    if config.compile_cache is None:
        return
    folder = Path(config.compile_cache).absolute()
    if any(character.isspace() for character in str(folder)):
        raise DeviceError(
            f"compile-cache must be a path without spaces, which TensorFlow cannot read. "
            f"Received: {str(folder)!r}"
        )
    wanted = f"--tf_xla_persistent_cache_directory={folder}"
    given = os.environ.get("TF_XLA_FLAGS", "")
    if wanted in given.split():
        return
    if "tensorflow" in sys.modules:
        raise DeviceError(
            "compile-cache must be known before TensorFlow is imported: call "
            "fastcifar.runtime.prepare_environment first, or use the command line. "
            f"Received: {config.compile_cache}"
        )
    try:
        (folder / "autotune").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceError(
            f"compile-cache {folder} cannot be written: {error.strerror}. Choose another folder"
        ) from error
    os.environ["TF_XLA_FLAGS"] = f"{given} {wanted}".strip()
    # A program from the cache is autotuned already; this is for those that differ in a part.
    flags = os.environ.get("XLA_FLAGS", "")
    if "autotune_cache_dir" not in flags:
        kept = f"--xla_gpu_per_fusion_autotune_cache_dir={folder / 'autotune'}"
        os.environ["XLA_FLAGS"] = f"{flags} {kept}".strip()


def find_cluster(config: RuntimeConfig) -> Cluster | None:
    """The workers that `config` asks for, or None where this process trains alone.

    Raises:
        DeviceError: if it asks for several and the environment does not name them.
    """
    return read_cluster(os.environ) if config.strategy == "multi_worker" else None


def setup(config: RuntimeConfig, say: Callable[[str], None] | None = None) -> Runtime:
    """Set the devices up and choose strategy, precision and XLA.

    Of several workers it waits for the others, at most `worker_timeout` seconds.

    Call it once per process, before anything else uses TensorFlow; again only with a layout that
    the devices already have.

    Args:
        config: what is asked for.
        say: called with a line now and then while others are waited for; by default stderr has it.

    Raises:
        DeviceError: if the machine does not have the devices asked for, TensorFlow has already been
            started with others, or a worker of several has no place.
        WorkerError: if another worker does not come.
    """
    prepare_environment(config)
    surroundings.settle_keras()
    import tensorflow as tf

    cluster = find_cluster(config)
    gpus = tf.config.list_physical_devices("GPU")
    if config.devices is not None:
        if config.devices > max(1, len(gpus)):
            raise DeviceError(
                f"devices must be at most the GPUs of this machine ({len(gpus)}). "
                f"Received: {config.devices}. To try a layout on the CPU: --logical-devices"
            )
        gpus = gpus[: config.devices]
    if len(gpus) > 1 and config.logical_devices > 1:
        raise DeviceError(
            f"logical-devices splits one GPU, and this machine has {len(gpus)}: add --devices 1. "
            f"Received: {config.logical_devices}"
        )
    try:
        _set_threads(tf, config)
        if gpus:
            _set_up_gpus(tf, gpus, config)
        elif config.logical_devices > 1:
            _split(tf, tf.config.list_physical_devices("CPU")[0], config.logical_devices)
    except RuntimeError as error:
        raise DeviceError(
            "devices must be set up before TensorFlow is used in this process. "
            f"Received: {str(error).splitlines()[0]}"
        ) from error
    if cluster is not None:
        rendezvous.meet(
            cluster, config.worker_timeout, say or (lambda line: print(line, file=sys.stderr))
        )
    strategy, why = _make_strategy(config, cluster, gpus)
    replicas = strategy.num_replicas_in_sync
    # TensorFlow optimises a graph with the operations of all replicas, for longer the more they are
    # and to no gain in a step's time. Set either way: a process may train more than once.
    on_cpus = replicas > 1 and not gpus
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": on_cpus})
    hosted = range(replicas)
    if cluster is not None:
        here = len(strategy.extended.worker_devices)
        hosted = range(cluster.index * here, (cluster.index + 1) * here)

    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capabilities = [d["compute_capability"] for d in details if "compute_capability" in d]
    precision, precision_why = choose_precision(
        config.precision,
        compute_capability=min(capabilities) if capabilities else None,
        cpu_flags=environment.cpu_flags(),
    )
    xla, xla_why = choose_xla(config.xla, on_gpu=bool(gpus))
    kind = "GPU" if gpus else "CPU"
    notes = [
        f"strategy: {replicas} replica{'s' if replicas > 1 else ''} on {kind} ({why})",
        f"precision: {precision} ({precision_why})",
        f"xla: {'on' if xla else 'off'} ({xla_why})",
    ]
    alone = None if cluster is not None else note_if_alone(os.environ, config.strategy)
    notes += [] if alone is None else [alone]
    unused = None if gpus else _unused_gpu(tf)
    return Runtime(
        strategy=strategy,
        replicas=replicas,
        hosted=hosted,
        cluster=cluster,
        gpus=tuple(d.get("device_name", "GPU") for d in details),
        precision=precision,
        xla=xla,
        notes=tuple(notes),
        warnings=() if unused is None else (unused,),
        threads={
            "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
            "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
        },
    )


def _unused_gpu(tf: Any) -> str | None:
    return environment.unused_gpu(
        environment.signs_of_gpu(),
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        built_with_cuda=tf.test.is_built_with_cuda(),
        has_libraries=environment.has_cuda_libraries(),
    )


def replica_devices(strategy: Any) -> list[str]:
    """The devices of this host's replicas (TensorFlow's default strategy does not tell its own)."""
    if strategy.num_replicas_in_sync > 1:
        return list(strategy.extended.worker_devices)
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [devices[0].name]


def has_nccl(devices: Sequence[str]) -> bool:
    """Whether NCCL adds up over these devices: GPUs, and not the parts of one."""
    import tensorflow as tf

    return "GPU" in devices[0] and len(tf.config.get_visible_devices("GPU")) >= len(devices)


def on_each_device(value: Any, strategy: Any) -> Any:
    """Copy an array or a tensor to the device of each of this host's replicas: one value each."""
    import tensorflow as tf

    devices = replica_devices(strategy)

    def place(replica: int) -> Any:
        with tf.device(devices[replica % len(devices)]):
            return tf.identity(value)

    if strategy.num_replicas_in_sync == 1:
        return place(0)
    return strategy.experimental_distribute_values_from_function(
        lambda context: place(context.replica_id_in_sync_group)
    )


def replica_here(hosted: int) -> int:
    """Which of this host's `hosted` replicas is being traced; to be asked inside `strategy.run`."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    # Ids count over all hosts, and every host has as many replicas.
    return int(tf.get_static_value(context.replica_id_in_sync_group)) % hosted


def _set_threads(tf: Any, config: RuntimeConfig) -> None:
    if config.intra_op_threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(config.intra_op_threads)
    if config.inter_op_threads is not None:
        tf.config.threading.set_inter_op_parallelism_threads(config.inter_op_threads)


def _set_up_gpus(tf: Any, gpus: Sequence[Any], config: RuntimeConfig) -> None:
    tf.config.set_visible_devices(gpus, "GPU")
    tf.config.experimental.enable_tensor_float_32_execution(config.tf32)
    if config.logical_devices > 1:
        # A limit for each part instead of growth: TensorFlow refuses the two together.
        limit = parse_bytes("gpu_memory_limit", config.gpu_memory_limit)
        if limit is None:
            limit = share_of_memory(environment.gpu_memory_bytes(), config.logical_devices)
        _split(tf, gpus[0], config.logical_devices, limit // 2**20)
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
        _ask_xla("--xla_gpu_exclude_nondeterministic_ops=true")
    if config.reduction == "overlapped":
        # It would join the reductions to one at the end, which nothing hides.
        _ask_xla("--xla_gpu_all_reduce_combine_threshold_bytes=0")


def _ask_xla(flag: str) -> None:
    """Set what XLA reads when it compiles its first program."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def share_of_memory(total_bytes: int | None, parts: int) -> int:
    """The bytes that each part of a GPU may take: nine tenths of it in all.

    The rest is for what CUDA's libraries take beside TensorFlow's allocator.

    Args:
        total_bytes: the GPU's memory, or None where it is not known.
        parts: logical devices.

    Raises:
        DeviceError: if it is not known.
    """
    if total_bytes is None:
        raise DeviceError(
            "gpu-memory-limit must be given where nvidia-smi does not tell the GPU's memory, such "
            "as 8GB. Received: auto"
        )
    return total_bytes * 9 // 10 // parts


def _split(tf: Any, device: Any, count: int, memory_mib: int | None = None) -> None:
    """Make `count` devices of one; a process that already has that many keeps them."""
    configured = tf.config.get_logical_device_configuration(device)
    if configured is None or len(configured) < count:
        part = tf.config.LogicalDeviceConfiguration(memory_limit=memory_mib)
        tf.config.set_logical_device_configuration(device, [part] * count)


def _make_strategy(
    config: RuntimeConfig, cluster: Cluster | None, gpus: Sequence[Any]
) -> tuple[Any, str]:
    """Return (strategy, why this one)."""
    import tensorflow as tf

    if cluster is not None:
        # Before anything else that starts TensorFlow's devices: it gives them their names.
        why = f"worker {cluster.index} of {len(cluster.addresses)}, by {cluster.found_in}"
        return _multi_worker(tf, cluster), why
    kind = "GPU" if gpus else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if not gpus:
        devices = devices[: config.logical_devices]
    if config.strategy == "auto":
        mirrored = len(devices) > 1
        split = config.logical_devices > 1 or not gpus
        what = "logical device" if split else "GPU"
        why = f"{len(devices)} {what}{'s'[: len(devices) > 1]}"
    else:
        mirrored = config.strategy == "mirrored"
        why = "asked for"
    if not mirrored:
        return tf.distribute.get_strategy(), why
    return _mirrored(tuple(devices)), why


@functools.cache
def _mirrored(devices: Sequence[str]) -> Any:
    """A strategy for these devices, the same one for all runs of a process.

    A second one would number its reductions from the start, and TensorFlow refuses a number that
    has had another size on these devices.
    """
    import tensorflow as tf

    # NCCL is TensorFlow's own choice.
    operations = None if has_nccl(devices) else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(list(devices), cross_device_ops=operations)


def _multi_worker(tf: Any, cluster: Cluster) -> Any:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    with _ended_by_ctrl_c():
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process inside.

    Where a worker is lost between `rendezvous` and here, TensorFlow waits for it in a call that
    never comes back to Python, where a handler would run. SIGTERM has TensorFlow's own there.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # ignored, or not ours to set
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def peak_device_bytes() -> int | None:
    """Peak memory in use on the first GPU so far, or None on a CPU."""
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
