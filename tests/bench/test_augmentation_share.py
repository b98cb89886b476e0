"""The share of a step that augmentation takes is that of the time it takes."""

import functools
from types import SimpleNamespace

import pytest

from fastcifar.bench import measure, prefixes, stage_names
from fastcifar.bench.augmentation.share import SharePlan, measure_share
from tests.bench.subjects import Rows, prepared
from tests.bench.test_measure import Clock

pytestmark = pytest.mark.usefixtures("tiny_network", "short_pieces")


@pytest.mark.slow
def test_shares_of_a_real_step():
    config, parts = prepared()
    rows = Rows()
    measure_share(config, parts, SharePlan(seconds=0.2, rounds=2), rows)
    assert list(rows) == [
        f"{section}/{policy}"
        for policy in ("none", "standard", "trivial")
        for section in ("transform", "step")
    ]
    for name, row in rows.items():
        assert (row.check, row.error) == ("ok", None)
        section, policy = name.split("/")
        shares = [f"transform/{policy}"] + ["step/none"] * (policy != "none")
        assert list(row.ratios) == (shares if section == "step" else [])


def test_a_share_is_time_over_time(monkeypatch):
    clock = Clock()

    def build(subject, name):
        policy = subject.config.phases[0].augment
        takes = {stage_names.STEP: 2.0, stage_names.AUGMENT: 0.1 if policy == "none" else 0.3}[name]

        def run():
            clock.now += takes
            return 10.0

        return SimpleNamespace(run=run, calibrate=lambda share: None, mean_loss=1.0)

    monkeypatch.setattr(prefixes, "build", build)
    monkeypatch.setattr(measure, "interleave", functools.partial(measure.interleave, clock=clock))
    config, parts = prepared()
    rows = Rows()
    measure_share(config, parts, SharePlan(("none", "standard"), seconds=50), rows)
    assert rows["step/none"].ratios["transform/none"].median == pytest.approx(0.05)
    assert rows["step/standard"].ratios["transform/standard"].median == pytest.approx(0.15)
    assert rows["step/standard"].ratios["step/none"].median == pytest.approx(1)
    assert rows["step/standard"].images_per_s.median == 5
