"""The real step on stand-in GPUs: what is placed, copied, waited for and launched there."""

import pytest

from tests.rehearsal.stand_in import rehearse

SMALL = (
    "cifar10-32px --depth 14 --width 4 --image-size 32 --global-batch-size 32 "
    "--source synthetic --synthetic-count 512 "
)
METRICS = {40: 1}  # what a call returns, read once at its end: five float64


@pytest.mark.parametrize(
    ("arguments", "launches"),
    [
        ("--augment standard", 48),
        ("--augment standard --xla off", 324),
        ("--augment standard --deterministic", 48),
    ],
    ids=["xla", "xla-off", "deterministic"],
)
def test_one_gpu_never_waits_within_a_call(stand_in_gpus, arguments, launches):
    found = rehearse(stand_in_gpus, SMALL + arguments, small=True)
    assert found.returncode == 0, found.output
    assert found.sizes("DtoH") == METRICS
    assert found.count("sync") == 1
    # What the host starts in a step, as it was when this was written; less is welcome.
    assert launches * 0.5 < found.launches <= launches


def test_two_gpus_add_up_once_a_step_and_wait_for_nothing(stand_in_gpus):
    found = rehearse(stand_in_gpus, SMALL + "--augment standard", gpus=2, small=True)
    assert found.returncode == 0, found.output
    # TensorFlow's own iterator over devices reads 8 bytes for each batch.
    assert found.sizes("DtoH") == {8: 2 * found.steps, **METRICS}
    assert found.sizes("PtoP") == {}
    assert [found.count("collective", gpu=gpu) for gpu in (0, 1)] == [found.steps] * 2
    assert 40 < found.launches <= 87


def test_bfloat16_between_gpus_is_refused_in_one_line(stand_in_gpus):
    found = rehearse(stand_in_gpus, SMALL + "--reduce-dtype bfloat16", gpus=2, small=True)
    assert "reduce-dtype must be float32 on several GPUs" in found.output


@pytest.mark.slow
def test_images_on_the_device_stay_there_without_xla(stand_in_gpus):
    found = rehearse(stand_in_gpus, SMALL + "--xla off --cache device", small=True)
    assert found.returncode == 0, found.output
    assert found.sizes("DtoH") == METRICS
