"""What is compared comes out right, and what is wrong is found."""

import numpy as np
import pytest

from fastcifar import config_file
from fastcifar.augment import get
from fastcifar.bench.augmentation import references
from fastcifar.bench.suite import correct
from tests.bench.handles import Canned
from tests.bench.subjects import Rows

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
LABELS = np.array([1, 2])


@pytest.mark.parametrize("name", ["standard", "mixup"])
def test_policies_compiled_are_those_of_the_cpu(name):
    row = correct.compare(name, *correct.both(get(name), "CPU:0"))
    assert row.check == "ok"
    assert row.figures["farthest"] < 0.01


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (IMAGES + 1, LABELS, "failed: 100.00% of the values are off, by up to 1 of 255"),
        (IMAGES, LABELS + 1, "failed: the labels differ"),
        (IMAGES[:1], LABELS, "failed: images must be finite and of the same shape"),
        (IMAGES * np.nan, LABELS, "failed: images must be finite and of the same shape"),
    ],
)
def test_what_differs_is_found(images, labels, said):
    assert correct.compare("x", [images, labels], [IMAGES, LABELS]).check == said


def test_a_value_that_was_rounded_the_other_way_is_told_apart():
    images = np.tile(IMAGES, (8, 1, 1, 1))
    other = images + 0.001
    other[0, 0, 0, 0] += 8  # posterised to the next step
    row = correct.compare("x", [other, LABELS], [images, LABELS])
    assert row.check == "ok"
    assert row.figures["differing"] == pytest.approx(1 / images.size)
    assert row.figures["farthest"] == pytest.approx(0.001, rel=0.1)


def test_an_operation_that_is_another_on_the_device_is_found(monkeypatch):
    rows = Rows()
    seen = []

    def agrees(operation, apply):
        seen.append(type(operation).__name__)
        return "failed: 3 off" if seen[-1] == "Invert" else "ok"

    monkeypatch.setattr(references, "agrees", agrees)
    correct.measure_references(rows, "CPU:0")
    assert rows["references/Invert"].check == "failed: 3 off"
    assert rows["references/Flip"].check == "ok"
    assert len(rows) == len(set(seen)) > 20


def losses(whole, split, agree=True):
    configs = {}

    def prepare(name, config, keep_weights):
        configs[name] = config_file.from_dict(config)
        return {}

    canned = Canned(
        prepare=prepare,
        begin=lambda name: None,
        losses=lambda name, steps: {"losses": split if name == "split" else whole},
        replicas_agree=lambda name: agree,
    )
    canned.configs = configs
    return canned


def measured(processes):
    rows = Rows()
    correct.measure_parts(rows, processes.start, small=True)
    assert not processes.open
    return rows


def test_two_parts_of_a_device_against_a_batch_in_two_parts():
    processes = losses([2.3, 2.2], [2.3001, 2.2])
    rows = measured(processes)
    assert list(rows) == [
        f"two parts/{name}"
        for name in ("float32", "float32 xla", "mixed_bfloat16", "mixed_bfloat16 xla")
    ]
    assert rows["two parts/float32"].figures["relative_error"] == pytest.approx(4.3e-5, rel=0.02)
    whole, split = processes.configs["whole"], processes.configs["split"]
    assert (whole.optimizer.accumulate, whole.runtime.logical_devices) == (2, 1)
    assert (split.optimizer.accumulate, split.runtime.logical_devices) == (1, 2)
    assert split.runtime.tf32 is False


@pytest.mark.parametrize(
    ("processes", "said"),
    [
        (losses([2.3], [2.4]), "failed: losses [2.4] instead of [2.3]"),
        (losses([2.3], [None]), "failed: the loss must be finite"),
        (losses([2.3], [2.3], agree=False), "failed: the two replicas hold different weights"),
    ],
)
def test_two_parts_that_do_something_else_are_found(processes, said):
    assert measured(processes)["two parts/float32"].check == said


@pytest.mark.parametrize(
    ("said", "status", "check"),
    [
        ("..\n40 passed in 2 s", 0, "ok"),
        ("..\n40 passed, 1 skipped in 2 s", 0, "ok"),
        (
            "FAILED tests/augment/a.py::b - E\n1 failed, 39 passed in 2 s",
            1,
            "failed: 1 failed, 39 passed; FAILED tests/augment/a.py::b",
        ),
        ("no tests ran in 0 s", 5, "failed: no test; "),
        ("", 0, "failed: no test; "),
    ],
)
def test_what_pytest_says(said, status, check):
    assert correct.judge_tests(said, status).check == check


def test_without_pytest_its_tests_are_not_run(monkeypatch):
    monkeypatch.setattr(correct.importlib.util, "find_spec", lambda name: None)
    rows = Rows()
    correct.measure_tests(rows)
    assert rows["tests/augment"].check == "not run: pytest, hypothesis is missing"
