"""What stands on the backbone: features [B, H, W, C] in, float32 logits [B, classes] out."""

from __future__ import annotations

import zlib
from typing import Any

import keras


def classify(x, *, num_classes: int, seed: int = 0, dtype: Any = "float32"):
    """Global average pooling and one dense layer, named as in Keras Applications.

    Args:
        x: feature map [B, H, W, C] (a Keras tensor).
        num_classes: width of the result.
        seed: of the initial weights.
        dtype: the network's dtype policy. Logits are float32 whatever it says (float64 under
            float64), so that the loss never sees a rounded logit.
    """
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="avg_pool")(x)
    initializer = keras.initializers.VarianceScaling(
        1.0, mode="fan_in", seed=zlib.crc32(f"{seed}/predictions".encode())
    )
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=initializer,
        dtype="float64" if dtype == "float64" else "float32",
        name="predictions",
    )(x)
