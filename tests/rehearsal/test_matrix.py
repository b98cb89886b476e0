"""What training can be asked for, each on stand-in GPUs: it runs, and a call waits for nothing.

Each row of a table has the launches of a step, as they were when it was written: they may not grow
unnoticed. `pytest -m slow -s` prints what docs/gpu.md has.
"""

import functools

import pytest

from tests.rehearsal.stand_in import METRICS, SMALL, rehearse

pytestmark = pytest.mark.slow

POLICIES = {
    # flags: launches of a step with XLA, and without
    "--augment none": (48, 191),
    "--augment flip": (48, 258),
    "--augment alternating-flip-crop": (48, 315),
    "--augment flip-rotate-zoom": (48, 357),
    "--augment resized-crop": (48, 393),
    "--augment colour": (48, 361),
    "--augment trivial": (46, 512),
    "--augment rand": (46, 665),
    "--augment mixup": (48, 252),
    "--augment cutmix": (48, 285),
}
TRAINING = {
    "--precision mixed_float16": (44, 355),
    "--precision float32": (45, 288),
    "--accumulate 2": (75, 635),
    "--ema 0.99 --clip-norm 1": (44, 453),
    "--cache device": (48, 325),
    "--dropout 0.2": (48, 342),
    "--optimizer adamw": (48, 324),
    "--optimizer rmsprop": (43, 455),
    "--optimizer sgd": (43, 336),
    "--image-size 64": (48, 325),
}
TWO_GPUS = {
    "--accumulate 2": 139,
    "--cache device": 85,
    "--xla off": 659,
}
# Without XLA the host reads whether gradients overflowed, because it leaves the update out.
READS = {"--precision mixed_float16 --xla off": {1: 1}}


@pytest.fixture(scope="module")
def one_gpu(stand_in_gpus):
    """Rehearses a row of a table with all others of its table: starting a process takes longest."""

    @functools.cache
    def run(names, extra):
        arguments = [f"{SMALL} {name} {extra}" for name in names]
        return dict(zip(names, rehearse(stand_in_gpus, *arguments), strict=True))

    return lambda table, name, extra="": run(tuple(table), extra)[name]


def check(call, name, launches, reads):
    print(f"\n{name}: {call.line()}")
    assert not call.problem
    assert call.sizes("DtoH") == METRICS | {n: k * call.steps for n, k in reads.items()}
    assert call.count("sync") == 1
    assert launches * 0.5 < call.launches <= launches


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("xla", ["on", "off"])
def test_policies(one_gpu, name, xla):
    found = one_gpu(POLICIES, name, f"--xla {xla}")
    check(found, f"{name} --xla {xla}", POLICIES[name][xla == "off"], {})


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("xla", ["on", "off"])
def test_ways_to_train(one_gpu, name, xla):
    found = one_gpu(TRAINING, name, f"--augment standard --xla {xla}")
    which = f"{name} --xla {xla}"
    check(found, which, TRAINING[name][xla == "off"], READS.get(which, {}))


@pytest.fixture(scope="module")
def two_gpus(stand_in_gpus):
    arguments = [f"{SMALL} --augment standard {name}" for name in TWO_GPUS]
    return dict(zip(TWO_GPUS, rehearse(stand_in_gpus, *arguments, gpus=2), strict=True))


@pytest.mark.parametrize("name", TWO_GPUS)
def test_two_gpus(two_gpus, name):
    found = two_gpus[name]
    # 8 bytes: TensorFlow's own iterator over devices, for each batch.
    check(found, f"2 GPUs: {name}", TWO_GPUS[name], {8: 2})
    assert found.count("collective") == 2 * found.steps
    assert found.sizes("PtoP") == {}


def test_synchronised_batch_norm(stand_in_gpus):
    flags = "--augment standard --xla off --sync-batch-norm"
    (found,) = rehearse(stand_in_gpus, SMALL + flags, gpus=2)
    check(found, f"2 GPUs: {flags}", 1203, {8: 2})


@pytest.mark.parametrize("xla", ["on", "off"])
def test_keras_cv_layers_as_far_as_their_crop(stand_in_gpus, xla):
    """The crop checks on the host what the device should have computed, and did not."""
    (found,) = rehearse(stand_in_gpus, f"{SMALL} --augment keras-cv --xla {xla}")
    assert "CropAndResize" in found.problem
    assert "box_index has values outside" in found.problem


WHOLE = [
    "--epochs 2",
    "--epochs 2 --image-size 16:32 --ema 0.9 --test-time-augmentation flip",
    "--epochs 1 --xla off --cache device",
    "--epochs 2 --trainable head --feature-cache memory",
]


@pytest.mark.parametrize("gpus", [1, 2])
def test_whole_trainings_come_to_their_end(stand_in_gpus, gpus):
    """One after the other in one process, as in a notebook."""
    found = rehearse(stand_in_gpus, *[SMALL + flags for flags in WHOLE], gpus=gpus, whole=True)
    for flags, one in zip(WHOLE, found, strict=True):
        assert not one.problem, flags
        assert one.count("kernel", "graph", "library"), flags
