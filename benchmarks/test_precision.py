"""The step by precision on a small network; `fastcifar bench precision` compares them by turns."""

import dataclasses

import pytest

from fastcifar.bench.subject import Subject, finite, resident
from fastcifar.config import RuntimeConfig
from fastcifar.training.preparation import prepare
from fastcifar.training.progress import Display


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_step(benchmark, subject, precision):
    config = dataclasses.replace(subject.config, runtime=RuntimeConfig(precision=precision))
    driver = resident(Subject.of(config, prepare(config, Display(quiet=True))))
    driver.run()  # traces
    benchmark(driver.run)
    assert finite(driver) == "ok"
