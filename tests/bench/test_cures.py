"""A bottleneck is provoked, cured, and shown as not cured where the cure buys nothing."""

import pytest

from fastcifar.bench import commands, cure_cases, plots, verdict
from fastcifar.bench.cure_cases import CASES, COMPUTE, Case
from fastcifar.bench.cures import AFTER, BEFORE, CuresPlan, measure_cures
from fastcifar.bench.measure import Described
from fastcifar.bench.process_flags import CuresFlags
from fastcifar.bench.record import Record
from fastcifar.bench.stage_names import STAGES
from fastcifar.errors import ConfigError, UserError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import CONFIG, Rows

DECODE = Case("decode", "decode", "quickstart", "", "--cache none", "--cache memory")
TRANSFER = Case("transfer", "transfer", "quickstart", "", "--a", "--b", on_gpu=True)
WORK = Case("compute", COMPUTE, "quickstart", "", "--precision float32", "--precision auto")
SIDES = {BEFORE: CONFIG, AFTER: CONFIG}


def machine(gpus=(), fails=None):
    """Processes in which what was cured is twice as fast."""
    canned = Canned()

    def prepare(name, config):
        if name == fails:
            raise Described("out of memory")
        return {"gpus": list(gpus), "environment": {"cpu": "a CPU"}}

    def run(name):
        # Real time passes by nothing here: the fast one delivers twice as many images.
        return 20.0 if name.endswith(AFTER) else 10.0

    canned.answers = {
        "prepare": prepare,
        "calibrate": lambda name: {"check": "ok"},
        "stages": lambda name, seconds: {
            "bound_by": "decode",
            "us_per_image": {"decode": 30.0, "forward": 20.0, "backward": 40.0, "step": 80.0},
        },
        "drain": lambda name: None,
        "run": run,
    }
    return canned


def measured(canned, *cases):
    rows = Rows()
    plan = CuresPlan(seconds=1, rounds=20)
    measure_cures([(case, SIDES) for case in cases], plan, rows, canned.start)
    return rows


def test_rows_have_what_bounds_them_and_the_cure_its_gain():
    canned = machine()
    rows = measured(canned, DECODE, WORK)
    assert list(rows) == ["decode/before", "decode/after", "compute/before", "compute/after"]
    assert rows["decode/before"].figures["flags"] == "--cache none"
    assert rows["decode/after"].figures["flags"] == "--cache memory"
    assert rows["decode/before"].figures["bound_by"] == "decode"
    assert rows["decode/before"].figures["stage_us"] == 30
    assert rows["compute/before"].figures["stage_us"] == 60
    assert rows["compute/before"].figures["share_of_step"] == 0.75
    assert rows["decode/before"].ratios == {}
    assert rows["decode/after"].ratios["decode/before"].n == 20
    assert not canned.open
    assert rows.environment == {"cpu": "a CPU"}


def test_one_case_that_fails_leaves_the_others():
    canned = machine(fails="decode/after")
    rows = measured(canned, DECODE, WORK)
    assert rows["decode/after"].error == "out of memory"
    assert rows["compute/after"].images_per_s is not None
    assert not canned.open


def test_a_mistake_of_the_user_ends_it():
    canned = machine()

    def refuse(name, config):
        raise UserError("data-path does not exist")

    canned.answers["prepare"] = refuse
    with pytest.raises(UserError, match="data-path"):
        measured(canned, DECODE)
    assert not canned.open


def test_a_cure_for_gpus_is_tried_there_only():
    rows = measured(machine(), DECODE, TRANSFER)
    assert rows["transfer/before"].check.startswith("not applicable: a CPU")
    rows = measured(machine(gpus=["H200"]), DECODE, TRANSFER)
    assert rows["transfer/after"].check == "ok"


def test_every_verdict_has_a_case():
    stages = {case.stage for case in CASES}
    # Resizing on the host is part of what `augment-host` moves to the device.
    assert stages == set(verdict._HOST) | set(verdict._DEVICE)
    assert stages - {COMPUTE} <= set(STAGES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_flags_of_every_case_are_legal_and_its_cure_is_one_that_the_verdict_names(case):
    from fastcifar import arguments

    sides = [arguments.parse_train(case.arguments(w)).config for w in (BEFORE, AFTER)]
    assert sides[0] != sides[1]
    cures = " ".join(
        stages[case.stage][1] for stages in (verdict._HOST, verdict._DEVICE) if case.stage in stages
    )
    if case.stage == COMPUTE:
        cures += " --precision auto"  # where the precision is float32
    assert any(word in cures for word in case.after.split() if word.startswith("--"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "decod"], "Did you mean 'decode'"),
        (["quickstart"], "recipes of its own: leave quickstart out"),
        (["--cache", "nowhere"], "cache"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(ConfigError) as found:
        commands.run(["cures", *given])
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_cases_are_chosen_by_name():
    assert [case.name for case in CuresFlags(only="update,decode").chosen] == ["decode", "update"]
    assert cure_cases.chosen([]) == CASES


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_a_real_case(tmp_path):
    import dataclasses

    none = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, cache="none"))
    rows = Rows()
    plan = CuresPlan(seconds=2, rounds=3, stage_seconds=1)
    measure_cures([(DECODE, {BEFORE: none, AFTER: CONFIG})], plan, rows, Local)
    assert {row.error for row in rows.values()} == {None}
    assert rows["decode/before"].figures["stage_us"] > 0
    assert "stage_us" not in rows["decode/after"].figures  # nothing is decoded any more
    record = Record("cures", "c", {"cpu": "a CPU"}, {}, tuple(rows.values()))
    assert len(plots.write_plots(tmp_path / "r.json", record)) == 1
