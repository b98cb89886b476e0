"""What stands on the backbone: features [B, H, W, C] in, float32 logits [B, classes] out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import keras

from fastcifar.errors import ConfigError
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.models.dropout import Dropout

HEADS = ("linear", "mlp")
POOLINGS = ("average", "flatten")

_HIDDEN = (128, 64)  # widths of the mlp
_POOL_NAMES = {"average": "avg_pool", "flatten": "flatten"}


def is_head(layer: str) -> bool:
    """Whether a layer is of a head, by its name."""
    return layer in (*_POOL_NAMES.values(), "predictions") or layer.startswith("head_")


def classify(
    x,
    *,
    num_classes: int,
    head: str = "linear",
    pooling: str = "average",
    dropout: float = 0.0,
    seed: int = 0,
    norm: Mapping[str, Any] | None = None,
    dtype: Any = "float32",
):
    """Put a head on a feature map; the layers of the linear one are named as in Keras Applications.

    - linear: pooling, dropout, logits.
    - mlp: pooling, BatchNorm, then twice (128 and 64 wide) a dense layer with ReLU, dropout and
      BatchNorm, and logits.

    Args:
        x: feature map [B, H, W, C] (a Keras tensor).
        num_classes: width of the result.
        head: `linear` or `mlp`.
        pooling: `average` over the positions, or `flatten`: all positions side by side, for which
            H and W must be known.
        dropout: share of the values dropped in training, in [0, 1); 0 adds no layer. Its keys come
            by `fastcifar.models.dropout.dropout_keys`.
        seed: of the initial weights, which depend on it and on the layer's name alone.
        norm: arguments of the BatchNorms.
        dtype: the network's dtype policy. Logits are float32 whatever it says (float64 under
            float64), so that the loss never sees a rounded logit.

    Raises:
        ConfigError: if an argument is not as above.
    """
    for name, value, legal in (("head", head, HEADS), ("pooling", pooling, POOLINGS)):
        if value not in legal:
            raise ConfigError(f"{name} must be {' or '.join(legal)}. Received: {value}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout must be 0 or more and below 1. Received: {dropout}")
    if pooling == "flatten" and None in x.shape[1:]:
        raise ConfigError(
            "pooling flatten needs one image size for the whole run, because the head's width "
            "depends on it. Received: a network for any size"
        )

    def initializer(name: str, scale: float) -> keras.initializers.Initializer:
        key = zlib.crc32(f"{seed}/{name}".encode())
        return keras.initializers.VarianceScaling(scale, mode="fan_in", seed=key)

    def drop(x, stream: int):
        if not dropout:
            return x
        name = f"head_{stream}_dropout"
        return Dropout(dropout, stream, dtype=dtype, name=name)(x)

    pool = keras.layers.GlobalAveragePooling2D if pooling == "average" else keras.layers.Flatten
    x = pool(dtype=dtype, name=_POOL_NAMES[pooling])(x)
    if head == "linear":
        x = drop(x, 0)
    else:
        x = BatchNormalization(dtype=dtype, name="head_0_bn", **(norm or {}))(x)
        for number, width in enumerate(_HIDDEN, start=1):
            name = f"head_{number}_dense"
            x = keras.layers.Dense(
                width,
                activation="relu",
                kernel_initializer=initializer(name, 2.0),  # He et al., 2015
                dtype=dtype,
                name=name,
            )(x)
            x = drop(x, number)
            x = BatchNormalization(dtype=dtype, name=f"head_{number}_bn", **(norm or {}))(x)
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=initializer("predictions", 1.0),
        dtype="float64" if dtype == "float64" else "float32",
        name="predictions",
    )(x)


def split_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a network in two that share its variables: images -> features, features -> logits.

    The cut is behind the pooling, which has no weights: what average pooling leaves of an image is
    the least that can be kept of it.

    Args:
        model: of `build_resnet`, with a head.

    Returns:
        The backbone, [B, H, W, 3] -> [B, F] in the compute dtype; and the head, from there to
        [B, classes]. The second after the first computes what the whole does.
    """
    pooling, *layers = (layer for layer in model.layers if is_head(layer.name))
    features = pooling.output
    x = inputs = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    for layer in layers:  # a head is a chain
        x = layer(x)
    backbone = keras.Model(model.input, features, name=f"{model.name}_backbone")
    return backbone, keras.Model(inputs, x, name=f"{model.name}_head")
