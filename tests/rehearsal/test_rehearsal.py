"""The real step on stand-in GPUs: what is placed, copied, waited for and launched there."""

import itertools

import pytest

from tests.rehearsal.stand_in import METRICS, SMALL, rehearse

ONE_GPU = {
    "xla": "--augment standard",
    "xla-off": "--augment standard --xla off",
    # The last: a process that has become deterministic stays so.
    "deterministic": "--augment standard --deterministic",
}
TWO_GPUS = {"bfloat16": "--reduce-dtype bfloat16", "xla": "--augment standard"}


def run(libraries, gpus, configurations):
    """All configurations in one process, because starting one takes longer than a run."""
    arguments = [SMALL + flags for flags in configurations.values()]
    return dict(zip(configurations, rehearse(libraries, *arguments, gpus=gpus), strict=True))


@pytest.fixture(scope="module")
def one_gpu(stand_in_gpus):
    return run(stand_in_gpus, 1, ONE_GPU)


@pytest.fixture(scope="module")
def two_gpus(stand_in_gpus):
    return run(stand_in_gpus, 2, TWO_GPUS)


@pytest.mark.parametrize(
    ("name", "launches"), [("xla", 48), ("xla-off", 324), ("deterministic", 48)]
)
def test_one_gpu_never_waits_within_a_call(one_gpu, name, launches):
    call = one_gpu[name]
    assert not call.problem
    assert call.sizes("DtoH") == METRICS
    assert call.count("sync") == 1
    # What the host starts in a step, as it was when this was written; less is welcome.
    assert launches * 0.5 < call.launches <= launches


def test_two_gpus_add_up_once_a_step_and_wait_for_nothing(two_gpus):
    call = two_gpus["xla"]
    assert not call.problem
    # TensorFlow's own iterator over devices reads 8 bytes for each batch.
    assert call.sizes("DtoH") == {8: 2 * call.steps, **METRICS}
    assert call.sizes("PtoP") == {}
    assert [call.count("collective", gpu=gpu) for gpu in (0, 1)] == [call.steps] * 2
    assert 40 < call.launches <= 87


def test_bfloat16_between_gpus_is_refused_in_one_line(two_gpus):
    assert "reduce-dtype must be float32 on several GPUs" in two_gpus["bfloat16"].problem


@pytest.mark.slow
def test_gradients_are_added_up_by_stage_within_the_program(stand_in_gpus):
    flags = "--augment standard --reduction overlapped"
    (call,) = rehearse(stand_in_gpus, SMALL + flags, gpus=2, blocks=(1, 1, 1, 1))
    assert not call.problem
    assert call.sizes("DtoH") == {8: 2 * call.steps, **METRICS}
    assert call.sizes("PtoP") == {}
    # The number of the step, and no keys of reductions.
    assert call.sizes("HtoD")[4] == 2 * call.steps
    for gpu in (0, 1):
        events = [e for e in call.events if e.gpu == gpu]
        places = [i for i, e in enumerate(events) if e.kind == "collective"]
        assert len(places) == 4 * call.steps
        sizes = [events[i].size for i in places]
        assert sizes == sizes[:4] * call.steps
        for step in range(call.steps):
            own = places[4 * step : 4 * step + 4]
            # Work is launched between one and the next, and after the last: none waits alone.
            after = [*own, own[-1] + 20]
            assert min(later - earlier for earlier, later in itertools.pairwise(after)) > 2
