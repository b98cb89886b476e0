"""What tests of benchmarks share."""

import keras
import pytest

from fastcifar.bench import keras_fit, pipelines, subject
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.training import assembly


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of work that last no longer than a test needs."""
    monkeypatch.setattr(pipelines, "_PIECE_S", 0.02)
    monkeypatch.setattr(pipelines, "_SETTLE_S", 0.0)
    monkeypatch.setattr(subject, "PIECE_S", 0.02)


@pytest.fixture
def tiny_network(monkeypatch):
    """A network of three layers in the place of ResNet, so that tracing takes no time."""

    def build(config, *, num_classes, seed, dtype, **rest):
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(
            4, 3, use_bias=False, kernel_initializer=_kernel(seed), dtype=dtype, name="conv"
        )(inputs)
        x = BatchNormalization(momentum=0.9, dtype=dtype, name="bn")(x)
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
        x = keras.layers.Dense(num_classes, kernel_initializer=_kernel(seed), name="predictions")(x)
        return keras.Model(inputs, x)

    monkeypatch.setattr(assembly, "build_model", build)
    monkeypatch.setattr(keras_fit, "build_model", build)


def _kernel(seed):
    return keras.initializers.GlorotUniform(seed=seed)
