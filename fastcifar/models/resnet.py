"""ResNet with bottleneck blocks, built functionally, with the layer names of Keras Applications.

Sources: He et al., "Deep Residual Learning for Image Recognition", 2015 (v1: the stride is in a
block's first 1x1 convolution); Goyal et al., "Accurate, Large Minibatch SGD", 2017 (v1.5: the
stride is in the 3x3 convolution; the last gamma of each block starts at zero).
"""

from __future__ import annotations

import zlib
from typing import Any

import keras

from fastcifar.errors import ConfigError
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.models.heads import classify
from fastcifar.models.max_pooling import FusedMaxPooling2D

# Blocks of each of the four stages. 14 and 26 are the same code at a size for tests and CPUs.
BLOCKS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class _Builder:
    """Adds named layers; holds what every layer of one network shares."""

    def __init__(self, dtype: Any, seed: int, momentum: float, epsilon: float, sync: bool):
        self.dtype = dtype
        self.seed = seed
        self.norm = {"momentum": momentum, "epsilon": epsilon, "synchronized": sync}

    def conv(self, x, filters: int, size: int, stride: int, padding: str, name: str):
        """A convolution without bias (the BatchNorm behind it has one): [B,H,W,C] -> [B,H',W',F]"""
        # The seed follows from the layer's name, so a weight does not depend on what else is built.
        initializer = keras.initializers.VarianceScaling(
            2.0, mode="fan_out", seed=zlib.crc32(f"{self.seed}/{name}".encode())
        )
        return keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer=initializer,
            dtype=self.dtype,
            name=name,
        )(x)

    def bn(self, x, name: str, zero_gamma: bool = False):
        return BatchNormalization(
            gamma_initializer="zeros" if zero_gamma else "ones",
            dtype=self.dtype,
            name=name,
            **self.norm,
        )(x)

    def relu(self, x, name: str):
        return keras.layers.Activation("relu", dtype=self.dtype, name=name)(x)

    def pad(self, x, width: int, name: str):
        return keras.layers.ZeroPadding2D(width, dtype=self.dtype, name=name)(x)


def build_resnet(
    *,
    depth: int = 50,
    num_classes: int | None = 10,
    head: str = "linear",
    pooling: str = "average",
    dropout: float = 0.0,
    image_size: tuple[int, int] | None = None,
    stem: str = "imagenet",
    stride_version: str = "v1",
    width: int = 64,
    zero_gamma: bool = True,
    batch_norm_momentum: float = 0.9,
    batch_norm_epsilon: float = 1.001e-5,
    sync_batch_norm: bool = False,
    fused_pooling: bool = False,
    dtype: Any = "float32",
    seed: int = 0,
) -> keras.Model:
    """Build a ResNet: normalised images [B, H, W, 3] in the compute dtype -> float32 logits [B, C].

    Args:
        depth: 14, 26, 50, 101 or 152 layers.
        num_classes: C; None leaves the head off, and the output is the last feature map
            [B, H/32, W/32, 32 * width] (H/8 with the CIFAR stem).
        head, pooling, dropout: see `fastcifar.models.heads.classify`.
        image_size: (H, W), or None for any size.
        stem: `imagenet` (7x7 stride 2 and 3x3 max-pooling) or `cifar` (3x3 stride 1, no pooling).
        stride_version: `v1` as in Keras Applications, or `v1.5`.
        width: channels of the stem; 64 is the published network.
        zero_gamma: start the last gamma of each block at zero, so that each block starts as the
            identity.
        batch_norm_momentum, batch_norm_epsilon: as in `keras.layers.BatchNormalization`.
        sync_batch_norm: batch statistics over all replicas.
        fused_pooling: the gradient of max-pooling that XLA fuses; the same values.
        dtype: a Keras dtype policy or its name. Weights and logits are float32 under the mixed
            policies.
        seed: of the initial weights, which depend on it and on the layer's name alone.

    Raises:
        ConfigError: for an unknown depth, stem, stride version or head.
    """
    if depth not in BLOCKS:
        legal = ", ".join(str(d) for d in BLOCKS)
        raise ConfigError(f"depth must be one of {legal}. Received: {depth}")
    if stem not in ("imagenet", "cifar"):
        raise ConfigError(f"stem must be imagenet or cifar. Received: {stem}")
    if stride_version not in ("v1", "v1.5"):
        raise ConfigError(f"stride-version must be v1 or v1.5. Received: {stride_version}")

    build = _Builder(dtype, seed, batch_norm_momentum, batch_norm_epsilon, sync_batch_norm)
    inputs = keras.Input((*(image_size or (None, None)), 3), name="images")
    if stem == "imagenet":
        x = build.pad(inputs, 3, "conv1_pad")
        x = build.conv(x, width, 7, 2, "valid", "conv1_conv")
    else:
        x = build.conv(inputs, width, 3, 1, "same", "conv1_conv")
    x = build.relu(build.bn(x, "conv1_bn"), "conv1_relu")
    if stem == "imagenet":
        x = build.pad(x, 1, "pool1_pad")
        pool = FusedMaxPooling2D if fused_pooling else keras.layers.MaxPooling2D
        x = pool(3, strides=2, dtype=dtype, name="pool1_pool")(x)

    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            name = f"conv{stage + 2}_block{block + 1}"
            stride = 2 if block == 0 and stage > 0 else 1
            filters = width * 2**stage
            x = _bottleneck(build, x, filters, stride, stride_version, block == 0, zero_gamma, name)

    if num_classes is not None:
        x = classify(
            x,
            num_classes=num_classes,
            head=head,
            pooling=pooling,
            dropout=dropout,
            seed=seed,
            norm=build.norm,
            dtype=dtype,
        )
    return keras.Model(inputs, x, name=f"resnet{depth}")


def _bottleneck(
    build: _Builder,
    x,
    filters: int,
    stride: int,
    stride_version: str,
    project: bool,
    zero_gamma: bool,
    name: str,
):
    """1x1, 3x3, 1x1 with a shortcut around them: [B,H,W,C] -> [B, H/stride, W/stride, 4*filters]"""
    shortcut = x
    if project:
        shortcut = build.conv(x, 4 * filters, 1, stride, "valid", f"{name}_0_conv")
        shortcut = build.bn(shortcut, f"{name}_0_bn")

    first, second = (stride, 1) if stride_version == "v1" else (1, stride)
    x = build.conv(x, filters, 1, first, "valid", f"{name}_1_conv")
    x = build.relu(build.bn(x, f"{name}_1_bn"), f"{name}_1_relu")
    if second > 1:
        # "same" with stride 2 would pad on one side only; published v1.5 weights pad on both.
        x = build.pad(x, 1, f"{name}_2_pad")
        x = build.conv(x, filters, 3, second, "valid", f"{name}_2_conv")
    else:
        x = build.conv(x, filters, 3, 1, "same", f"{name}_2_conv")
    x = build.relu(build.bn(x, f"{name}_2_bn"), f"{name}_2_relu")
    x = build.conv(x, 4 * filters, 1, 1, "valid", f"{name}_3_conv")
    x = build.bn(x, f"{name}_3_bn", zero_gamma=zero_gamma)

    x = keras.layers.Add(dtype=build.dtype, name=f"{name}_add")([shortcut, x])
    return build.relu(x, f"{name}_out")
