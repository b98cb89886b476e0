"""Policies alone on a small batch; `fastcifar bench augment` has all of them at full size."""

import pytest

from fastcifar.augment.policies import get
from fastcifar.bench.augmentation import names, rates

PLAN = rates.RatesPlan(source_size=32, image_size=32, global_batch_size=32)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("policy", ["standard", "trivial", "mixup"])
def test_a_policy_of_ours(benchmark, policy, xla):
    measured = rates.ours(policy, get(policy), PLAN, xla=xla)
    assert measured.check() == "ok"
    benchmark(measured.run)


@pytest.mark.parametrize("library", names.LIBRARIES)
def test_standard_by_layers(benchmark, library):
    measured = rates.theirs("standard", get("standard"), library, PLAN, xla=False)
    assert measured.check() == "ok"
    benchmark(measured.run)
