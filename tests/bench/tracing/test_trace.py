"""Traces: a hand-made one of a GPU to the last figure, a real one of this CPU, and what is none."""

import json

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from fastcifar.bench import pages, record, trace
from fastcifar.bench.tracing import kernels, xplane
from fastcifar.bench.tracing.summary import batches_taken, merged, summarise
from fastcifar.bench.tracing.xplane import Event, Line, Plane
from fastcifar.rundir import RunDir
from tests.training.small_run import small

CONV = "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_tensor16x8x16"
SLOW = "ampere_sgemm_128x64_nn"
NORM = "input_reduce_fusion"
# Two steps of 100 µs: (name, begin, end in µs, its operation).
STEP = [
    ("MemcpyH2D", 0, 10, ""),
    (CONV, 10, 40, "conv1/Conv2D"),
    (SLOW, 40, 50, "fc/MatMul"),
    (NORM, 60, 80, "conv1_bn/FusedBatchNormV3"),
]


def gpu_trace(path):
    """A GPU's plane with a compute and a copy stream, a derived line, and the host's plane."""
    space = xplane_pb2.XSpace()
    host = space.planes.add(name="/host:CPU")
    host.event_metadata[1].name = "conv1/Conv2D:Conv2D"
    line = host.lines.add(name="tf_Compute", timestamp_ns=5_000)
    line.events.add(metadata_id=1, offset_ps=0, duration_ps=1_000_000)
    plane = space.planes.add(name="/device:GPU:0")
    plane.stat_metadata[1].name = "tf_op"
    names = {name: i for i, (name, *_) in enumerate(STEP, 1)}
    operations = {operation: 10 + i for i, (*_, operation) in enumerate(STEP)}
    for name, number in names.items():
        plane.event_metadata[number].name = name
    for operation, number in operations.items():
        plane.stat_metadata[number].name = operation
    compute = plane.lines.add(name="Stream #13(Compute)", timestamp_ns=1_000)
    copies = plane.lines.add(name="Stream #14(MemcpyH2D)", timestamp_ns=1_000)
    for step in range(2):
        for name, begin, end, operation in STEP:
            line = copies if name.startswith("Memcpy") else compute
            event = line.events.add(
                metadata_id=names[name],
                offset_ps=(100 * step + begin) * 1_000_000,
                duration_ps=(end - begin) * 1_000_000,
            )
            event.stats.add(metadata_id=1, ref_value=operations[operation])
    derived = plane.lines.add(name="XLA Modules", timestamp_ns=1_000)
    derived.events.add(metadata_id=names[CONV], offset_ps=0, duration_ps=180_000_000)
    path.write_bytes(space.SerializeToString())
    return path


def test_a_gpus_trace(tmp_path):
    found = trace.measure_trace(gpu_trace(tmp_path / "host.xplane.pb"), steps=2)
    rows = {row.name: row.figures for row in found.rows}
    # From 0 to 180 µs: 140 busy; pauses of 10, 20 and 10 µs.
    busy = rows[trace.BUSY]
    assert busy["ms_per_step"] == pytest.approx(0.07)
    assert busy["share_of_trace"] == pytest.approx(140 / 180)
    assert rows[trace.GAPS]["launches_per_step"] == pytest.approx(1.5)
    assert rows[trace.GAPS]["share_of_trace"] == pytest.approx(40 / 180)
    assert rows[trace.GAPS]["longest_ms"] == pytest.approx(0.02)
    assert rows[trace.LAUNCHES]["launches_per_step"] == 3
    per_kind = {
        name.removeprefix("kind/"): (figures["launches_per_step"], figures["ms_per_step"])
        for name, figures in rows.items()
        if name.startswith("kind/")
    }
    assert per_kind == {
        kernels.PRODUCT: (1, pytest.approx(0.03)),
        kernels.MISSING: (1, pytest.approx(0.01)),
        kernels.UNFUSED_NORM: (1, pytest.approx(0.02)),
        kernels.TO_DEVICE: (1, pytest.approx(0.01)),
    }
    assert [rows[f"top/0{i}"]["operation"] for i in (1, 2)] == [CONV, NORM]
    assert "3.0 kernels a step" in busy["verdict"]
    assert "75.0% is on tensor cores, 25.0% is not." in busy["verdict"]
    table = pages.table_of(found, "kind").splitlines()
    assert table[0] == "|  | a step | ms a step | of the traced time | check |"
    assert table[2] == f"| kind/{kernels.PRODUCT} | 1.0 | 0.030 | 33.3% | ok |"


def test_an_epoch_that_ends_early_has_fewer_steps_than_were_asked_for():
    takes = [Event("IteratorGetNextOp::DoCompute", i, i + 1) for i in range(3)]
    host = Plane("/host:CPU", (Line("t", tuple(takes)),))
    assert batches_taken([host]) == 3
    gpus = [Plane(f"/device:GPU:{i}", (Line("s", (Event("k", 0, 1),)),)) for i in range(3)]
    assert batches_taken([host, *gpus]) == 1  # one for each of them
    assert batches_taken([]) == 0


def test_several_gpus_are_told_by_the_first():
    def plane(number, end):
        event = Event("Memset", 0, end)
        return Plane(f"/device:GPU:{number}", (Line("Stream #1", (event,)),))

    found = summarise([plane(1, 5), plane(0, 7)])
    assert (found.device, found.busy_ns) == ("/device:GPU:0", 7)


def test_what_overlaps_is_busy_once():
    events = [Event("a", 0, 10), Event("b", 5, 12), Event("c", 20, 30), Event("d", 21, 22)]
    assert merged(events) == [(0, 12), (20, 30)]


def test_an_operation_inside_another_counts_once():
    outer = Event("a/While:While", 0, 100)
    inner = [Event("a/Conv2D:Conv2D", 10, 40), Event("b/Conv2D:Conv2D", 50, 90)]
    other = Event("ExecutorState::Process", 0, 200)
    found = summarise([Plane("/host:CPU", (Line("t", (inner[1], outer, other, inner[0])),))])
    assert {name: (s.count, s.ns) for name, s in found.top.items()} == {
        "Conv2D": (2, 70),
        "While": (1, 30),
    }
    assert (found.on_gpu, found.kinds, found.busy_ns) == (False, {}, 100)


def test_a_real_trace_of_the_cpu(tmp_path):
    matrix = tf.random.stateless_uniform([400, 400], [0, 0])

    @tf.function
    def work(x):
        for _ in tf.range(4):
            x = tf.matmul(x, matrix)
        return x

    work(matrix)
    run = RunDir.create(tmp_path / "run", small(runtime={"profile": 4}), {"cpu": "this one"})
    with tf.profiler.experimental.Profile(str(run.tensorboard_path)):
        work(matrix).numpy()
    out = tmp_path / "t.json"
    assert trace.main([str(run.path), "--out", str(out)]) == 0
    found = record.read(out)
    assert found.environment == {"cpu": "this one"}
    assert found.config["runtime"]["profile"] == 4
    assert found.row(trace.BUSY).figures["steps"] == 4
    assert found.row(trace.BUSY).figures["device"] == "/host:CPU"
    top = found.row("top/01").figures
    assert "MatMul" in top["operation"]
    assert top["launches_per_step"] == 1
    assert found.row("kind/other") is None


def test_a_gpu_that_was_not_seen_is_a_failed_row(tmp_path):
    run = RunDir.create(tmp_path / "run", small(runtime={"profile": 2}), {"gpus": ["a GPU"]})
    path = run.tensorboard_path / "host.xplane.pb"
    path.parent.mkdir(parents=True, exist_ok=True)
    gpu_trace(path)
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    assert trace.measure_trace(run.path).row(trace.UNSEEN) is None
    del space.planes[1]
    path.write_bytes(space.SerializeToString())
    assert trace.main([str(run.path), "--out", str(tmp_path / "t.json")]) == 1
    found = record.read(tmp_path / "t.json")
    assert found.row(trace.UNSEEN).error.startswith("the profiler has recorded nothing of it")
    assert found.row(trace.BUSY).figures["device"] == "/host:CPU"


@pytest.mark.parametrize(
    ("make", "arguments", "said"),
    [
        (lambda path: path.mkdir(), [], "a folder without *.xplane.pb"),
        (lambda path: None, [], "Received: nothing there"),
        (lambda path: path.write_bytes(b"\xff" * 20), ["--steps", "1"], "must be an *.xplane.pb"),
        (lambda path: path.write_bytes(b""), ["--steps", "1"], "must hold events of a device"),
        (gpu_trace, [], "does not say how many steps it is of: add --steps N"),
        (gpu_trace, ["--steps", "0"], "steps must be 1 or more. Received: 0"),
        (gpu_trace, ["--step"], "argument --step"),
    ],
)
def test_mistakes_are_one_line(make, arguments, said, tmp_path, capsys):
    path = tmp_path / "host.xplane.pb"
    make(path)
    assert trace.main([str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_newest_trace_of_a_run_is_read(tmp_path):
    import os

    for name, age in (("old", 100), ("new", 0)):
        path = tmp_path / name / "host.xplane.pb"
        path.parent.mkdir()
        gpu_trace(path)
        os.utime(path, (1e9 - age, 1e9 - age))
    assert xplane.find(tmp_path).parent.name == "new"
    assert json.dumps(record.to_dict(trace.measure_trace(xplane.find(tmp_path), 2)))
