"""Arithmetic: what a network asks for, and what this machine gives at best."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

# A training step computes the forward pass and two products of its size backward: with respect to
# the activations and to the weights.
TRAINING_FACTOR = 3


@dataclass(frozen=True)
class Work:
    """What the convolutions and matrix products of a forward pass are, for one image.

    What is elementwise is left out, as is usual (K. He et al., 2015, table 1 counts multiply-adds).

    Attributes:
        flops: floating-point operations, two for each multiply-add.
        activations: numbers read and written, each layer's inputs and outputs once.
        weights: numbers read, once for however many images.
    """

    flops: int
    activations: int
    weights: int


def forward_flops(model: keras.Model, image_shape: tuple[int, int, int]) -> int:
    """Count the floating-point operations of one image's forward pass; see `forward_work`."""
    return forward_work(model, image_shape).flops


def forward_work(model: keras.Model, image_shape: tuple[int, int, int]) -> Work:
    """Count what one image's forward pass asks for, in the traced graph.

    Args:
        model: images [B, H, W, 3] -> logits.
        image_shape: (H, W, 3).
    """
    traced = tf.function(lambda images: model(images, training=False), autograph=False)
    spec = tf.TensorSpec([1, *image_shape], model.compute_dtype)
    graph = traced.get_concrete_function(spec).graph
    flops = activations = weights = 0
    for operation in graph.get_operations():
        if operation.type == "Conv2D":
            height, width, inner, _ = operation.inputs[1].shape
            each = height * width * inner
        elif operation.type == "MatMul":
            each = operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
        else:
            continue
        read, kernel = (tensor.shape.num_elements() for tensor in operation.inputs)
        written = operation.outputs[0].shape.num_elements()
        flops += 2 * written * each
        activations += read + written
        weights += kernel
    return Work(flops, activations, weights)


@dataclass(frozen=True)
class Peak:
    """What the device gives at best, measured here and now.

    Attributes:
        flops_per_s: of a large matrix product in the compute dtype.
        bytes_per_s: read and written by a large elementwise operation in place, as an update does.
    """

    flops_per_s: float
    bytes_per_s: float


def measure_peak(
    dtype: str, *, on_gpu: bool, seconds: float = 1.0, size: int | None = None
) -> Peak:
    """Measure the peaks: the best of as many tries as fit into `seconds` each.

    Args:
        dtype: the compute dtype.
        on_gpu: choose sizes for a GPU.
        seconds: for each of the two.
        size: side of the matrices; the values in memory are several times as many.
    """
    size = size or (8192 if on_gpu else 2048)
    matrix = tf.random.stateless_uniform([size, size], [0, 0], dtype=tf.float32)
    matrix = tf.cast(matrix, dtype)
    # Larger than any cache: 256 MB, and on a GPU 2 GB. In place: an output of its own would have to
    # be allocated each time, and on a CPU its pages be zeroed first, which is traffic of its own.
    ones = tf.ones([size * size * (8 if on_gpu else 16)], tf.float32)
    values = tf.Variable(ones)

    @tf.function(autograph=False)
    def product() -> tf.Tensor:
        return tf.matmul(matrix, matrix)[0, 0]

    @tf.function(autograph=False)
    def add() -> tf.Tensor:
        values.assign_add(ones)
        return tf.constant(0.0)

    product_s, add_s = _best(product, seconds), _best(add, seconds)
    moved = 3 * ones.dtype.size * int(ones.shape[0])  # both are read, one is written
    return Peak(2 * size**3 / product_s, moved / add_s)


def _best(work: Callable[[], tf.Tensor], seconds: float) -> float:
    work().numpy()  # traces
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        began = time.perf_counter()
        work().numpy()
        found.append(time.perf_counter() - began)
    return min(found)
