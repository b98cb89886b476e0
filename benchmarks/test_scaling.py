"""The reduction between two replicas; `fastcifar bench scaling` has it beside the whole step."""

import dataclasses

from fastcifar.bench.reduction import Reduction
from fastcifar.bench.subject import Subject
from fastcifar.config import RuntimeConfig
from fastcifar.training.preparation import prepare
from fastcifar.training.progress import Display


def test_a_reduction(benchmark, subject):
    runtime = RuntimeConfig(strategy="mirrored", logical_devices=2)
    config = dataclasses.replace(subject.config, runtime=runtime)
    reduction = Reduction.of_step(Subject.of(config, prepare(config, Display(quiet=True))))
    reduction.run(1)  # traces
    benchmark(lambda: reduction.run(4))
