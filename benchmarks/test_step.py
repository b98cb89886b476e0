"""The step and its prefixes on a small network; `fastcifar bench stages` has the full size."""

import pytest

from fastcifar.bench import prefixes
from fastcifar.bench.subject import end_to_end, finite


@pytest.mark.parametrize("name", prefixes.names(replicas=1))
def test_a_prefix_of_the_step(benchmark, subject, name):
    driver = prefixes.build(subject, name)
    driver.run()  # traces
    benchmark(driver.run)
    assert finite(driver) == "ok"


def test_the_real_path(benchmark, subject):
    driver = end_to_end(subject)
    driver.run()
    benchmark(driver.run)
    assert finite(driver) == "ok"
