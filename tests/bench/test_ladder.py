"""The ladder keeps what gains and drops what loses, one field at a time."""

import dataclasses

import pytest
from PIL import Image

from fastcifar import config_file
from fastcifar.bench import commands, ladder, pages, plots, rungs
from fastcifar.bench.ladder import LadderPlan, judge, measure_ladder
from fastcifar.bench.measure import Described
from fastcifar.bench.record import Estimate, Record
from fastcifar.bench.rungs import NAIVE, RUNGS, WHOLE_BATCHES
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import CONFIG, Rows

# What an image costs without a change, and what each change makes of it.
SLOW_S = 0.016
FACTORS = {WHOLE_BATCHES: 0.5, "augment-on device": 0.5, "xla on": 4.0}


def answering(gpus=(), natively="mixed_bfloat16", fails=None):
    """Processes whose pieces take as long as `FACTORS` says of their configuration."""
    took, configs = {}, {}

    def prepare(name, config, per_image):
        if name == fails:
            raise Described("InternalError: no")
        configs[name] = config_file.from_dict(config)
        data, runtime = configs[name].data, configs[name].runtime
        took[name] = SLOW_S
        took[name] *= 1 if per_image else FACTORS[WHOLE_BATCHES]
        took[name] *= FACTORS["augment-on device"] if data.augment_on == "device" else 1
        took[name] *= FACTORS["xla on"] if runtime.xla == "on" else 1
        return {
            "gpus": list(gpus),
            "precision": natively if runtime.precision == "auto" else runtime.precision,
            "environment": {"cpu": "x"},
            "image_bytes": 3072,
            "import_s": 3.0,
            "build_s": 1.0,
        }

    def run(name):
        canned.clock.now += took[name]
        return 128.0

    canned = Canned(
        prepare=prepare,
        calibrate=lambda name, share: {"check": "ok", "steps": 2},
        drain=lambda name: None,
        run=run,
        resident=run,
        arithmetic=lambda name, peak_seconds: {"flops_per_image": 2e9},
    )
    canned.configs = configs
    return canned


def measured(processes, chosen=RUNGS):
    rows = Rows()
    plan = LadderPlan(chosen, rounds=4)
    measure_ladder(CONFIG, plan, rows, processes.start, processes.clock)
    return rows


def climbed(config, chosen=RUNGS):
    """The rows of the real path, in this process."""
    rows = Rows()
    measure_ladder(config, LadderPlan(chosen, rounds=2), rows, Local)
    return rows


def test_the_best_is_climbed_to_and_losers_are_dropped(tmp_path):
    processes = answering()
    rows = measured(processes)
    assert list(rows) == [NAIVE, *(rung.name for rung in RUNGS), "best", "step"]
    assert not processes.open
    outcomes = {name: row.figures.get("outcome") for name, row in rows.items()}
    assert outcomes[WHOLE_BATCHES] == outcomes["augment-on device"] == "kept"
    assert outcomes["xla on"] == "dropped"
    assert rows[WHOLE_BATCHES].figures["to_best"]["median"] == pytest.approx(2)
    # What comes after a loser builds on what was best before it.
    assert processes.configs["steps-per-call auto"].runtime.xla == "off"
    assert processes.configs["steps-per-call auto"].runtime.precision == "auto"
    best = rows["best"]
    assert best.ratios[NAIVE].median == pytest.approx(4)
    assert best.ratios["step"].median == pytest.approx(1)
    assert best.figures["config"]["data"]["augment_on"] == "device"
    assert "× the naive way. Pipeline efficiency" in best.figures["verdict"]
    words = best.figures["verdict"]
    assert "not measured: a training step is 2 GFLOP an image" in words
    assert "trains 100,000 images/s" in words
    assert "768 bytes each in float32, 0.0768 GB/s" in words  # 8 px
    assert "3,072 bytes, 0.307 GB/s" in words
    assert rows["cache device"].check.startswith("not applicable: a CPU computes")

    found = Record("ladder", "c", {"cpu": "a CPU"}, {}, tuple(rows.values()))
    table = pages.table_of(found)
    assert "| × best so far | outcome | × naive, by the rungs |" in table
    (picture,) = plots.write_plots(tmp_path / "r.json", found)
    with Image.open(picture) as image:
        assert image.width == 1080


def test_each_rung_changes_one_field():
    variant = rungs.naive(CONFIG)
    assert variant.per_image
    for rung in RUNGS:
        changed = rung.apply(variant)
        assert changed != variant
        old, new = (
            {
                (section, field): getattr(getattr(v.config, section), field)
                for section in ("data", "runtime")
                for field in vars(getattr(v.config, section))
            }
            for v in (variant, changed)
        )
        assert sum(old[key] != new[key] for key in old) == (1 if rung.section else 0)
        variant = changed


def test_a_gpu_tries_its_own_memory_too():
    names = [WHOLE_BATCHES, "order permutation", "augment-on device", "resize-on device"]
    names += ["cache device"]
    rows = measured(answering(gpus=["A100"]), rungs.chosen(names))
    assert "to_best" in rows["cache device"].figures
    assert "not measured" not in rows["best"].figures["verdict"]


def test_a_rung_that_needs_another_is_not_applicable_without_it():
    rows = measured(answering(gpus=["A100"]), rungs.chosen(["cache device"]))
    assert rows["cache device"].check.startswith("not applicable: cache device keeps images on")
    rows = measured(answering(), rungs.chosen(["order permutation"]))
    assert (
        rows["order permutation"].check == "not applicable: order permutation needs whole batches"
    )


def test_a_rung_that_fails_is_a_row_and_the_ladder_goes_on():
    rows = measured(answering(fails="order permutation"))
    assert rows["order permutation"].error == "InternalError: no"
    assert rows["augment-on device"].figures["outcome"] == "kept"


def test_a_precision_that_is_no_change_is_not_tried():
    rows = measured(answering(natively="float32"), rungs.chosen(["precision auto"]))
    assert rows["precision auto"].check == "not applicable: this device computes float32 natively"


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        ((1.2, 1.1, 1.3), "kept"),
        ((1.01, 0.99, 1.03), "no difference"),
        ((0.99, 0.97, 1.01), "no difference"),
        ((0.96, 0.85, 1.07), "cannot tell"),
        ((0.98, 0.97, 0.99), "dropped"),
        ((0.5, 0.1, 2.5), "dropped"),
    ],
)
def test_outcomes(ratio, outcome):
    assert judge(Estimate(*ratio, 5)) == outcome


@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_the_real_path_climbs(monkeypatch):
    names = ["cache memory", WHOLE_BATCHES, "augment-on device"]
    config = dataclasses.replace(
        CONFIG, phases=(dataclasses.replace(CONFIG.phases[0], augment="standard"),)
    )
    monkeypatch.setattr(ladder, "judge", lambda ratio: ladder.KEPT)
    rows = climbed(config, rungs.chosen(names))
    assert {row.check for row in rows.values()} == {"ok"}
    assert rows["best"].images_per_s is not None


@pytest.mark.usefixtures("tiny_network")
def test_a_policy_that_the_textbook_does_not_know_is_refused():
    config = dataclasses.replace(
        CONFIG, phases=(dataclasses.replace(CONFIG.phases[0], augment="trivial"),)
    )
    with pytest.raises(Exception, match="is known for augment none, flip, flip-crop, standard"):
        climbed(config)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--rungs", "xla of"], "Received: 'xla of'. Did you mean 'xla on'?"),
        (["--cache", "none"], "leave --cache out, and use --rungs"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(ConfigError) as caught:
        commands.run(["ladder", *given])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
