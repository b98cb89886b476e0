"""Weight files in the exact format of those that Keras Applications publishes, with random values.

    python -m tests.models.keras_applications OUT.h5

writes one for ResNet50. The published files were written by Keras 2: an attribute of the file lists
all layers, an attribute of each layer's group its weights as `conv1_conv/kernel:0`, and the array
lies at `conv1_conv/conv1_conv/kernel:0`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import keras
import numpy as np


def random_resnet50(*, seed: int = 0, **arguments) -> keras.Model:
    """`keras.applications.ResNet50` with random BatchNorms and biases, so that none is neutral.

    Args:
        seed: of all values.
        arguments: of `keras.applications.ResNet50`; without its top unless they say otherwise.
    """
    arguments = {"include_top": False, "weights": None, **arguments}
    model = keras.applications.ResNet50(**arguments)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            # Gammas below one, or the sum of 16 blocks would grow out of float32's accuracy.
            values = [
                rng.uniform(0.2, 0.6, shape),
                rng.normal(0, 0.1, shape),
                rng.normal(0, 0.1, shape),
                rng.uniform(0.5, 1.5, shape),
            ]
        elif isinstance(layer, keras.layers.Conv2D):
            kernel = layer.kernel.shape
            scale = np.sqrt(2 / np.prod(kernel[:-1]))
            values = [
                rng.standard_normal(kernel, np.float32) * np.float32(scale),
                rng.normal(0, 0.1, kernel[-1]),
            ]
        elif layer.weights:
            values = [rng.normal(0, 0.01, weight.shape) for weight in layer.weights]
        else:
            continue
        layer.set_weights(values)
    return model


def write_h5(path: Path, model: keras.Model) -> Path:
    """Write the weights of `model` as Keras 2 did."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.4"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=weight.numpy())
    return path


if __name__ == "__main__":
    write_h5(Path(sys.argv[1]), random_resnet50())
