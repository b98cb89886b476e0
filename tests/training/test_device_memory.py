"""Running out of a device's memory is one line, and leaves a folder that can be started again."""

import dataclasses

import pytest
import tensorflow as tf

from fastcifar.errors import DeviceMemoryError
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.rundir import RunDir
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.device_memory import refusing_exhaustion
from fastcifar.training.step import TrainStep
from fastcifar.training.trainer import train
from tests.training.small_run import small

pytestmark = pytest.mark.usefixtures("two_stages")

OOM = tf.errors.ResourceExhaustedError(
    None,
    None,
    "OOM when allocating tensor with shape[512,64,112,112] and type float on "
    "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc\n\t [[{{node a}}]]",
)


def raising(error):
    def call(*arguments, **options):
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "device"),
    [
        (OOM, "GPU:0"),
        (
            tf.errors.InternalError(
                None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."
            ),
            "the device",
        ),
        (
            tf.errors.InternalError(None, None, "failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
            "the device",
        ),
    ],
)
def test_it_is_one_line_whatever_the_error_is_called(error, device):
    with (
        pytest.raises(DeviceMemoryError) as caught,
        refusing_exhaustion("testing", "Lower --it"),
    ):
        raise error
    assert str(caught.value) == f"{device} ran out of memory while testing. Lower --it"
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "/cache/a; No space left on device"),
        tf.errors.InternalError(None, None, "something else"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)), refusing_exhaustion("testing", "Lower --it"):
        raise error


@pytest.mark.parametrize("place", ["trace", "__call__"])
def test_a_folder_without_a_checkpoint_is_free_again(tmp_path, monkeypatch, place):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, place, raising(OOM))
        with pytest.raises(DeviceMemoryError) as caught:
            train(small(), str(folder))
    said = str(caught.value)
    assert said.startswith("GPU:0 ran out of memory while training on 16 images of 16 px")
    for flag in ("--global-batch-size", "--image-size", "--accumulate"):
        assert flag in said
    assert "\n" not in said
    RunDir(folder).check_unused()


def test_a_run_with_a_checkpoint_keeps_it(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    config = small(phase={"epochs": 1})
    with monkeypatch.context() as patch:
        call, places = Evaluator.__call__, []

        def second(self, split):
            places.append(split)
            return call(self, split) if len(places) == 1 else raising(OOM)()

        patch.setattr(Evaluator, "__call__", second)
        with pytest.raises(DeviceMemoryError, match="the last checkpoint is intact"):
            train(config, str(folder))
    assert len(Checkpoints(folder / "checkpoints").paths()) == 1
    # Only the test split is left to evaluate.
    summary = train(config, str(folder), resume=True)
    assert summary["steps"] == 7


@pytest.mark.slow
def test_a_run_that_ended_before_its_first_checkpoint_resumes_at_the_start(tmp_path):
    config = small(phase={"epochs": 1})
    RunDir.create(tmp_path / "killed", config, {})
    resumed = train(config, str(tmp_path / "killed"), resume=True)
    whole = train(config, str(tmp_path / "whole"))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert dataclasses.asdict(RunDir(tmp_path / "killed").read_config()) == dataclasses.asdict(
        config
    )
