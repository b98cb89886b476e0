"""What lies between two runs of `fastcifar bench accuracy`: all state made anew."""

from fastcifar.bench.seeded import reinitialise


def test_state_is_made_anew(benchmark, subject):
    config = subject.prepared.config
    benchmark.pedantic(lambda: reinitialise(subject.prepared, config), rounds=3, warmup_rounds=1)
