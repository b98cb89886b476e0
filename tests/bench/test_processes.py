"""A row's own process answers questions, tells what went wrong, and leaves nothing behind."""

import dataclasses
import io
import json
import math
import os
import signal
import sys

import numpy as np
import pytest

from fastcifar import config_file
from fastcifar.bench.measure import Described
from fastcifar.bench.processes import row_process, worker
from fastcifar.bench.processes.row_process import OutOfMemory, Processes, RowProcess
from fastcifar.bench.processes.worker import Worker, kind_of, serve
from fastcifar.errors import ConfigError, FastcifarError, UserError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import BATCH, CONFIG

PIECE_S = 0.02  # of the fixture `short_pieces`
TINY = config_file.to_dict(CONFIG)


@pytest.fixture
def asked(tiny_network, short_pieces):
    """A worker in this process that is ready."""
    made = Worker()
    made.answer("prepare", config=TINY, keep_weights=True)
    return made


def test_the_first_step_comes_in_parts(asked):
    parts = asked.answer("first_step")
    assert parts["trace_s"] > 0
    assert parts["compile_s"] >= 0
    assert parts["startup_s"] > parts["trace_s"]
    assert math.isfinite(parts["first_loss"])
    assert asked._step.traces == 1  # tracing apart does not trace twice


def test_pieces_of_work(asked):
    asked.answer("run")
    ready = asked.answer("calibrate", step_s=PIECE_S / 3)
    assert ready == {"check": "ok", "steps": 3}
    asked.answer("drain")
    assert asked.answer("run") == 3 * BATCH
    assert asked.answer("resident") == 3 * BATCH
    assert asked.answer("reduction") == 3 * BATCH
    assert asked.answer("replicas_agree") is True
    assert asked.answer("peaks")["peak_host_bytes"] > 1e6


def test_losses_start_from_the_same_weights_and_batches_each_time(asked):
    asked.answer("begin")
    first = asked.answer("losses", steps=4)["losses"]
    asked.answer("run")
    asked.answer("begin")
    again = [asked.answer("losses", steps=2) for _ in range(2)]
    assert again[0]["losses"] + again[1]["losses"] == first
    assert len(again[0]["seconds"]) == 2
    assert len(set(first)) == 4
    asked.answer("begin", nudged=True)
    nudged = asked.answer("losses", steps=4)["losses"]
    assert nudged != first
    np.testing.assert_allclose(nudged, first, rtol=1e-4)
    assert asked._step.traces == 1


def test_the_textbooks_input_feeds_the_same_step(tiny_network, short_pieces):
    data = dataclasses.replace(
        CONFIG.data, augment_on="host", resize_on="host", transfer="float32", cache="none"
    )
    made = Worker()
    config = dataclasses.replace(CONFIG, data=data)
    made.answer("prepare", config=config_file.to_dict(config), per_image=True)
    assert made.answer("calibrate")["check"] == "ok"
    assert made.answer("run") % BATCH == 0


def test_the_steps_of_a_call_are_those_of_the_configuration(tiny_network, short_pieces):
    runtime = dataclasses.replace(CONFIG.runtime, steps_per_call="2")
    made = Worker()
    made.answer("prepare", config=config_file.to_dict(dataclasses.replace(CONFIG, runtime=runtime)))
    made.answer("run")
    assert made.answer("calibrate", step_s=PIECE_S / 6)["steps"] == 2
    assert made.answer("run") == 6 * BATCH
    assert made.answer("resident") == 6 * BATCH


def answers(lines, made):
    out = io.StringIO()
    serve(io.StringIO("\n".join(lines)), out, made)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_errors_are_answers_too():
    config = TINY | {"global_batch_size": 1000}
    (found, unknown) = answers(
        [json.dumps({"do": "prepare", "config": config}), json.dumps({"do": "dance"})], Worker()
    )
    assert found["kind"] == worker.USER
    assert "global-batch-size must be at most the" in found["error"]
    assert unknown["kind"] == worker.OTHER


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "kind", "raised"),
    [
        (ConfigError("x"), worker.USER, UserError),
        (FastcifarError("x"), worker.OURS, FastcifarError),
        (MemoryError("x"), worker.MEMORY, OutOfMemory),
        (ResourceExhaustedError("x"), worker.MEMORY, OutOfMemory),
        (RuntimeError("RESOURCE_EXHAUSTED: 3 GB"), worker.MEMORY, OutOfMemory),
        (RuntimeError("x"), worker.OTHER, Described),
    ],
)
def test_kinds_of_errors_cross_the_border(error, kind, raised):
    assert kind_of(error) == kind
    assert type(row_process.error_of(kind, "x")) is raised


def test_a_process_of_its_own(capfd):
    process = row_process.start("tiny")
    try:
        built = process.ask("prepare", config=TINY)
        assert built["import_s"] > 0
        assert built["precision"] == "float32"
        os.kill(process._process.pid, signal.SIGINT)  # Ctrl-C reaches all; the asker decides
        assert process.ask("peaks")["peak_host_bytes"] > 1e7
        with pytest.raises(UserError, match="has no key"):
            process.ask("prepare", config={"nonsense": 1})
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(OutOfMemory, match="the system ended the process"):
            process.ask("peaks")
    finally:
        process.close()
    assert "tiny: starting a process" in capfd.readouterr().err


def test_all_processes_of_a_benchmark_end_with_its_block():
    made = Canned(dance=lambda name: name)

    def measure():
        with Processes(made.start) as processes:
            assert processes.start("a").ask("dance") == processes["a"].ask("dance") == "a"
            processes.start("b")
            processes.start("c")
            processes.close("c", "never opened")
            assert made.open == {"a", "b"}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert not made.open
    # One that a row had before ends when it gets another one.
    handles = []

    def start(name):
        handles.append(Local(name))
        return handles[-1]

    with Processes(start) as processes:
        processes.start("a")
        processes.start("a")
        assert [handle.closed for handle in handles] == [True, False]
        processes.close()
        assert handles[1].closed


def test_a_process_that_dies_tells_its_last_words(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    process = RowProcess()
    with pytest.raises(Described, match="ended with status 1"):
        process.ask("peaks")
    process.close()
