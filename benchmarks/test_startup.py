"""Tracing a step anew; `fastcifar bench startup` has all parts of a start, each in its process."""

from fastcifar.bench.subject import end_to_end


def test_a_step_is_traced(benchmark, subject):
    benchmark.pedantic(
        lambda driver: driver.trace(),
        setup=lambda: ((end_to_end(subject),), {}),
        rounds=2,
    )
