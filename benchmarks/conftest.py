"""Small sizes for all suites; `scripts/bench` measures the full ones by `fastcifar bench`."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported


def pytest_collection_finish(session):
    """Two CPU devices stand for two GPUs, before anything uses TensorFlow (as for the tests)."""
    if not session.items or session.config.option.collectonly:
        return
    import tensorflow as tf

    (cpu, *_) = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(cpu) is None:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
        tf.config.set_logical_device_configuration(cpu, parts)


@pytest.fixture(scope="session")
def subject():
    """The recipe quickstart on a few drawn images."""
    import dataclasses

    from fastcifar import recipes
    from fastcifar.bench.subject import Subject
    from fastcifar.training.preparation import prepare
    from fastcifar.training.progress import Display

    config = recipes.get("quickstart")
    data = dataclasses.replace(config.data, synthetic_count=512, synthetic_size=16)
    model = dataclasses.replace(config.model, width=4)
    phase = dataclasses.replace(config.phases[0], image_size=16)
    config = dataclasses.replace(
        config, global_batch_size=64, data=data, model=model, phases=(phase,)
    )
    return Subject.of(config, prepare(config, Display(quiet=True)))
