"""The reductions of a step, packed and apart, and a call that runs nothing."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from fastcifar.bench.record import OK
from fastcifar.bench.reduction import Reduction
from fastcifar.bench.step_overheads import PACKED, PER_VARIABLE, measure_reductions
from tests.training.tiny import mirrored


def test_ones_add_up_to_the_replicas_of_each_vector():
    reduction = Reduction(mirrored(), [(5, "float32"), (7, "bfloat16")])
    assert reduction.run(1) == 4  # two vectors, two replicas
    assert reduction.run(3) == 12
    assert reduction.bytes == 4 * 5 + 2 * 7
    assert reduction.check() == OK


def test_a_wrong_sum_is_told(monkeypatch):
    reduction = Reduction(mirrored(), [(5, "float32")])
    monkeypatch.setattr(reduction, "run", lambda times: 1.0)
    assert reduction.check() == "failed: 2 expected. Received: 1"


def test_both_ways_add_up_the_same_bytes():
    strategy = mirrored()
    with strategy.scope():
        variables = [tf.Variable(np.zeros(shape, np.float32)) for shape in ((3, 2), (4,))]
    state = SimpleNamespace(trainable=variables[:1], statistics=variables[1:])
    prepared = SimpleNamespace(state=state, runtime=SimpleNamespace(strategy=strategy))
    rows = {row.name: row for row in measure_reductions(prepared, 8, seconds=0.1)}
    packed, apart = rows[PACKED], rows[PER_VARIABLE]
    assert (packed.check, apart.check) == (OK, OK)
    assert packed.figures["bytes"] == apart.figures["bytes"] == 4 * (3 + 6 + 4)
    assert (packed.figures["reductions"], apart.figures["reductions"]) == (1, 3)
    assert packed.ratios[PER_VARIABLE].n >= 2
