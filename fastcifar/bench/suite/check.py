"""The first part of the suite: what this machine is, and whether TensorFlow computes on it.

    python -m fastcifar.bench.suite.check --out FILE [--small]

Products are held against NumPy in float64, convolutions with their gradients and BatchNorm against
the CPU in float32, a compiled function against NumPy; then the best rates that the device gives.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar import runtime
from fastcifar.bench import compute
from fastcifar.bench.measure import describe
from fastcifar.bench.record import OK, Record, RecordFile, Row
from fastcifar.bench.suite import packages
from fastcifar.bench.tables import failed, show
from fastcifar.config import RuntimeConfig
from fastcifar.environment import fingerprint
from fastcifar.errors import FastcifarError
from fastcifar.paths import given_path

# Relative errors (of norms) that rounding explains: 8 bits of bfloat16's mantissa, 10 of TF32's,
# which a GPU may use for float32, and sums of a few thousand terms.
_LIMITS = {"bfloat16": 1e-2, "float32": 1e-3}
_GRADIENT_LIMITS = {"bfloat16": 5e-2, "float32": 3e-3}

Reference = Callable[[], tuple[Any, Any]]


def relative_error(received: Any, expected: Any) -> float:
    """The norm of the difference over that of what is expected."""
    one, other = (np.asarray(array, np.float64) for array in (received, expected))
    return float(np.linalg.norm(one - other) / max(float(np.linalg.norm(other)), 1e-30))


def judged(name: str, limit: float, work: Callable[[], float]) -> Row:
    """The row of a check whose relative error must be below a limit."""
    try:
        error = work()
    except Exception as problem:
        return Row(name, error=describe(problem))
    figures = {"relative_error": error, "limit": limit}
    if not error < limit:  # false for NaN too
        return Row(name, check=f"failed: relative error {error:.2g} is not below {limit:g}")
    return Row(name, figures=figures)


def product(dtype: str, size: int) -> float:
    """The error of a matrix product on the device against NumPy's."""
    rng = np.random.default_rng(0)
    one, other = (tf.cast(rng.standard_normal((size, size)), dtype) for _ in range(2))
    exact = tf.cast(one, tf.float64).numpy() @ tf.cast(other, tf.float64).numpy()
    return relative_error(tf.cast(tf.matmul(one, other), tf.float32).numpy(), exact)


def convolution(dtype: str, device: str) -> float:
    """The largest error of a 3x3 convolution and its two gradients against the CPU's."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((16, 28, 28, 64)).astype(np.float32) * 0.1
    kernel = rng.standard_normal((3, 3, 64, 64)).astype(np.float32) * 0.1

    def work(where: str, kind: str) -> list[np.ndarray]:
        with tf.device(where):
            x, w = tf.cast(images, kind), tf.cast(kernel, kind)
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                y = tf.nn.conv2d(x, w, 1, "SAME")
                loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
            return [tf.cast(t, tf.float32).numpy() for t in (y, *tape.gradient(loss, [x, w]))]

    return _farthest(work(device, dtype), work("CPU:0", "float32"))


def batch_norm(dtype: str, device: str) -> float:
    """The largest error of the fused BatchNorm and its gradients against the CPU's."""
    rng = np.random.default_rng(2)
    images = rng.standard_normal((16, 14, 14, 64)).astype(np.float32)
    scale, shift = (rng.standard_normal(64).astype(np.float32) for _ in range(2))

    def work(where: str, kind: str) -> list[np.ndarray]:
        with tf.device(where):
            given = [tf.cast(images, kind), tf.constant(scale), tf.constant(shift)]
            with tf.GradientTape() as tape:
                tape.watch(given)
                y, _, _ = tf.compat.v1.nn.fused_batch_norm(*given, epsilon=1e-3, is_training=True)
                loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 3)
            return [tf.cast(t, tf.float32).numpy() for t in (y, *tape.gradient(loss, given))]

    return _farthest(work(device, dtype), work("CPU:0", "float32"))


def compiled() -> float:
    """The error of a function compiled by XLA against NumPy's."""
    rng = np.random.default_rng(3)
    one, other = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))

    @tf.function(jit_compile=True)
    def function(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.nn.softmax(tf.tanh(a @ b)) * tf.exp(-a), axis=1)

    high = np.tanh(one.astype(np.float64) @ other)
    weights = np.exp(high - high.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = (weights * np.exp(-one.astype(np.float64))).sum(axis=1)
    return relative_error(function(tf.constant(one), tf.constant(other)).numpy(), expected)


def _farthest(received: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    pairs = zip(received, expected, strict=True)
    return max(relative_error(one, other) for one, other in pairs)


def measure(put: Callable[..., None], *, small: bool) -> None:
    """Make all checks; `put(*rows)` receives each as it comes."""
    chosen = runtime.setup(RuntimeConfig(devices=1))
    (device,) = runtime.replica_devices(chosen.strategy)
    on_gpu = bool(chosen.gpus)
    put(
        Row("devices", figures={"found": ", ".join(chosen.gpus) or "no GPU: the CPU"}),
        environment=fingerprint(list(chosen.gpus), dict(chosen.threads)),
    )
    lacking = packages.missing(packages.dependencies())
    put(Row("packages", figures={"found": f"missing: {', '.join(lacking)}" if lacking else "all"}))
    size = 256 if small else 2048
    for dtype, limit in _LIMITS.items():
        put(judged(f"product/{dtype}", limit, partial(product, dtype, size)))
    for dtype, limit in _GRADIENT_LIMITS.items():
        put(judged(f"convolution/{dtype}", limit, partial(convolution, dtype, device)))
        # A CPU has the gradients of the fused BatchNorm in float32 alone.
        if on_gpu or dtype == "float32":
            put(judged(f"BatchNorm/{dtype}", limit, partial(batch_norm, dtype, device)))
    put(judged("compiled/float32", 1e-2, compiled))
    for dtype in _LIMITS:
        put(_peak(dtype, on_gpu, small))


def _peak(dtype: str, on_gpu: bool, small: bool) -> Row:
    try:
        sizes: dict[str, Any] = {"seconds": 0.1, "size": 256} if small else {}
        peak = compute.measure_peak(dtype, on_gpu=on_gpu, **sizes)
    except Exception as problem:
        return Row(f"peak/{dtype}", error=describe(problem))
    return Row(
        f"peak/{dtype}",
        check=OK,
        figures={"flops_per_s": peak.flops_per_s, "bytes_per_s": peak.bytes_per_s},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where a check failed."""
    parser = argparse.ArgumentParser(prog="python -m fastcifar.bench.suite.check")
    parser.add_argument("--out", type=given_path, required=True)
    parser.add_argument("--small", action="store_true")
    try:
        given = parser.parse_args(argv)
        record = Record("check", "scripts/gpu_suite OUT check", fingerprint(), {})
        file = RecordFile(given.out, record)
        measure(file.put, small=given.small)
    except FastcifarError as error:
        print(f"fastcifar: error: {error}", file=sys.stderr)
        return error.exit_status
    show(file.record)
    return 1 if failed(file.record) else 0


if __name__ == "__main__":
    sys.exit(main())
