"""The targets' table says what records of a GPU say, and nothing without them."""

import dataclasses

import pytest

from fastcifar import config_file, recipes
from fastcifar.bench import pages, record, targets
from fastcifar.bench.record import Estimate, Record, Row

GPU = {"gpus": ["NVIDIA H200"], "driver": "580.1", "versions": {}, "commit": "abc"}
FULL = {"model": {"depth": 50}}


def estimate(value, n=9):
    return Estimate(value, 0.99 * value, 1.01 * value, n)


def stages(rate=6000.0, efficiency=0.99, resize=0.01, augment=0.02):
    return Record(
        *("stages", "c", GPU, FULL),
        (
            Row("resize", figures={"share_of_step": resize}),
            Row("augment", figures={"share_of_step": augment}),
            Row("step", estimate(rate)),
            Row("end_to_end", estimate(rate), ratios={"step": estimate(efficiency)}),
        ),
    )


def step(utilisation=0.24, **changes):
    ratios = {"float32 xla": 3.5, "tf32 xla": 1.9, "mixed_bfloat16": 1.4, **changes}
    return Record(
        *("step", "c", GPU, FULL),
        (
            Row(
                "mixed_bfloat16 xla",
                estimate(5000.0),
                ratios={name: estimate(value) for name, value in ratios.items()},
                figures={"utilisation": utilisation, "global_batch_size": 256},
            ),
            Row("batch 512", figures={"utilisation": utilisation + 0.02, "global_batch_size": 512}),
        ),
    )


def scratch(accuracy=0.945, seconds=100.0, runs=3, source="image_folder"):
    config = config_file.to_dict(recipes.get("cifar10-scratch"))
    config["data"]["source"] = source
    figures = {"test_accuracy": accuracy, "train_s": seconds, "runs": runs, "deviation": 0.001}
    row = Row("cifar10-scratch", figures=figures)
    return Record("accuracy", "c", GPU, {"cifar10-scratch": config}, (row,))


def startup(ratio=0.4):
    figures = {"compile_to_cold": dataclasses.asdict(estimate(ratio, 3))}
    return Record("startup", "c", GPU, FULL, (Row("xla_warm", figures=figures),))


def said(tmp_path, **found):
    """(measured, reached or missed) of each target."""
    for name, made in found.items():
        record.write(tmp_path / f"{name.replace('_', '-')}.json", made)
    lines = targets.lines(targets.read(tmp_path))
    return {
        target.record + ": " + target.what: line[2:4]
        for target, line in zip(targets.TARGETS, lines, strict=True)
    }


def all_of(tmp_path, **changes):
    made = {
        "gpu_stages_224px": stages(),
        "gpu_stages_32px": stages(),
        "gpu_step_224px": step(),
        "gpu_scratch": scratch(),
        "gpu_startup_224px": startup(),
    }
    return list(said(tmp_path, **made | changes).values())


def test_nothing_is_measured_without_records(tmp_path):
    assert set(said(tmp_path).values()) == {("not measured", "")}
    table = pages.targets_table(tmp_path)
    assert table.count("| not measured |") == len(targets.TARGETS)
    assert "Measured on" not in table


def test_what_records_say(tmp_path):
    assert all_of(tmp_path) == [
        ("6,000 [5,940, 6,060], n = 9", "reached"),
        ("0.990 [0.980, 1.000], n = 9", "reached"),
        ("0.990 [0.980, 1.000], n = 9", "reached"),
        ("3.0%", "reached"),
        ("3.50 [3.46, 3.54], n = 9", "reached"),
        ("1.90 [1.88, 1.92], n = 9", "reached"),
        ("1.40 [1.39, 1.41], n = 9", "reached"),
        ("26.0%, batch 512", "reached"),
        (
            "94.50%, standard deviation 0.10%, after 100 s of training; n = 3; "
            "over the goal of 60 s",
            "reached",
        ),
        ("0.40 [0.40, 0.40] of the cold one, n = 3", "reached"),
    ]
    table = pages.targets_table(tmp_path)
    assert table.endswith("Measured on NVIDIA H200.")
    assert "not measured" not in table


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"gpu_stages_224px": stages(rate=4999.0)}, [0]),
        ({"gpu_stages_224px": stages(efficiency=0.97)}, [1]),
        ({"gpu_stages_32px": stages(efficiency=0.97)}, [2]),
        ({"gpu_stages_224px": stages(augment=0.05)}, [3]),
        ({"gpu_step_224px": step(**{"float32 xla": 2.9})}, [4]),
        ({"gpu_step_224px": step(**{"tf32 xla": 1.7})}, [5]),
        ({"gpu_step_224px": step(mixed_bfloat16=1.05)}, [6]),
        ({"gpu_step_224px": step(utilisation=0.12)}, [7]),
        ({"gpu_scratch": scratch(accuracy=0.939)}, [8]),
        ({"gpu_scratch": scratch(seconds=121.0)}, [8]),
        ({"gpu_startup_224px": startup(ratio=0.51)}, [9]),
    ],
)
def test_what_is_missed_is_called_so(tmp_path, changes, missed):
    outcomes = [outcome for _, outcome in all_of(tmp_path, **changes)]
    assert [i for i, outcome in enumerate(outcomes) if outcome == "missed"] == missed


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_scratch": scratch(source="synthetic")},
        {"gpu_scratch": scratch(runs=2)},
        {"gpu_startup_224px": dataclasses.replace(startup(), environment={"gpus": []})},
        {"gpu_startup_224px": dataclasses.replace(startup(), config={"model": {"depth": 14}})},
        {"gpu_startup_224px": dataclasses.replace(startup(), rows=(Row("plain"),))},
        {"gpu_step_224px": dataclasses.replace(step(), rows=(Row("float32", error="OOM"),))},
    ],
)
def test_what_is_something_else_is_not_measured(tmp_path, changes):
    assert ("not measured", "") in all_of(tmp_path, **changes)


def test_another_gpu_is_named(tmp_path):
    record.write(
        tmp_path / "gpu-startup-224px.json",
        dataclasses.replace(startup(), environment=GPU | {"gpus": ["NVIDIA A100"]}),
    )
    table = pages.targets_table(tmp_path)
    assert "Measured on NVIDIA A100. The targets are for one H200, and are not scaled" in table


@pytest.mark.parametrize(
    ("gpu", "rate", "outcome"),
    [
        ("NVIDIA H200", 4999.0, "missed"),
        ("NVIDIA H100 80GB HBM3", 4999.0, "reached"),
        ("NVIDIA H100 80GB HBM3", 4499.0, "missed"),
        ("NVIDIA A100", 4999.0, "missed"),
    ],
)
def test_an_h100_has_a_rate_of_its_own(tmp_path, gpu, rate, outcome):
    made = dataclasses.replace(stages(rate=rate), environment=GPU | {"gpus": [gpu]})
    assert all_of(tmp_path, gpu_stages_224px=made)[0][1] == outcome


def test_the_goal_from_scratch_is_60_seconds(tmp_path):
    text, outcome = all_of(tmp_path, gpu_scratch=scratch(seconds=59.0))[8]
    assert text.endswith("after 59 s of training; n = 3")
    assert outcome == "reached"


def test_a_cpus_record_fills_no_table_of_a_gpu(tmp_path):
    path = tmp_path / "gpu-startup-224px.json"
    page = "<!-- table: gpu-startup-224px -->\n<!-- end -->"
    record.write(path, dataclasses.replace(startup(), environment={"gpus": []}))
    assert pages.fill(page, tmp_path).splitlines()[1] == pages.NOT_MEASURED
    record.write(path, startup())
    filled = pages.fill(page, tmp_path)
    assert "| xla_warm |" in filled
    assert "1 × NVIDIA H200 (driver 580.1), " in filled
