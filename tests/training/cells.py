"""The matrix of layouts: what one cell of it is, how it is run, and what it is held to.

As a program, it is one worker of several and runs its cells one after the other:
`python -m tests.training.cells CELL…` under scripts/launch_workers; every worker prints what it
found as one line of JSON.
"""

import hashlib
import itertools
import json
import sys
from typing import NamedTuple

import numpy as np

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
LAYOUTS = ("none", "mirrored", "multi_worker")
# Large enough for BatchNorm to have something to average in every part of a replica's share.
BATCH, EXAMPLES, RATE = 32, 192, 0.02
# What the loss of a step may be off by, against the same step in float64.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 0.03, "mixed_float16": 0.01}


class Cell(NamedTuple):
    """One combination: its step runs in calls of `k`, `accumulate` parts a batch."""

    layout: str
    precision: str
    xla: bool
    k: int
    accumulate: int

    def __str__(self):
        xla = "xla" if self.xla else "plain"
        return f"{self.layout}-{self.precision}-{xla}-{self.k}-{self.accumulate}"

    @classmethod
    def parse(cls, text):
        layout, precision, xla, k, accumulate = text.split("-")
        return cls(layout, precision, xla == "xla", int(k), int(accumulate))


ALL = [
    Cell(*values)
    for values in itertools.product(LAYOUTS, PRECISIONS, (True, False), (1, 8), (1, 2))
]
# Every pair of values of two factors is in one of these or more (a test counts them).
PAIRWISE = [
    Cell.parse(text)
    for text in (
        "none-float32-plain-8-1",
        "none-mixed_bfloat16-xla-1-2",
        "none-mixed_float16-xla-8-1",
        "none-float32-xla-1-1",
        "mirrored-float32-xla-1-2",
        "mirrored-mixed_bfloat16-xla-8-1",
        "mirrored-mixed_float16-plain-1-2",
        "mirrored-mixed_bfloat16-plain-8-2",
        "multi_worker-float32-plain-8-2",
        "multi_worker-mixed_bfloat16-plain-1-1",
        "multi_worker-mixed_float16-xla-1-1",
        "multi_worker-mixed_float16-plain-8-2",
    )
]


def run(cell, strategy, hosted=None):
    """Run a cell twice, so that a second call could retrace; returns what it found."""
    from fastcifar.config import OptimizerConfig
    from tests.training.tiny import Run, tiny_split

    config = OptimizerConfig(accumulate=cell.accumulate)
    made = Run(
        strategy=strategy,
        dtype=cell.precision,
        xla=cell.xla,
        optimizer=config,
        build=one_stage,
        split=tiny_split(EXAMPLES),
        global_batch_size=BATCH,
        hosted=hosted,
        rate=RATE,
    )
    start = made.arrays()
    calls = [1, 1, 1] if cell.k == 1 else [3, 3]
    metrics = made.run(*calls)
    arrays = made.arrays()
    return {
        "loss": sum(m.loss for m in metrics[: 3 if cell.k == 1 else 1]),
        "skipped": sum(m.skipped for m in metrics),
        "images": sum(m.images for m in metrics) / sum(calls),
        "traces": made.step.traces,
        "finite": all(bool(np.isfinite(value).all()) for value in arrays.values()),
        "moved": all(bool((arrays[n] != v).any()) for n, v in start.items() if "/kernel" in n),
        "digests": digests(made),
    }


def one_stage(dtype):
    """A network of its own for each policy, from the same weights."""
    from tests.training.tiny import tiny_resnet

    return tiny_resnet(dtype, stages=1)


def digests(made):
    """A hash of the state of each replica of this process, BatchNorm statistics included."""
    replicas = zip(
        *(made.strategy.experimental_local_results(v) for _, v in made.state.variables()),
        strict=True,
    )
    return [
        hashlib.sha256(b"".join(v.numpy().tobytes() for v in variables)).hexdigest()
        for variables in replicas
    ]


def check(cell, found, expected_loss):
    """Hold what all workers of a cell found to the rules."""
    for each in found:
        assert each["traces"] == 1, cell
        assert each["finite"], cell
        assert each["moved"], cell
        assert each["skipped"] == 0, cell
        assert each["images"] == BATCH, cell
        assert abs(each["loss"] / expected_loss - 1) < TOLERANCE[cell.precision], cell
    assert len({digest for each in found for digest in each["digests"]}) == 1, cell


def expected_losses(replicas, accumulate):
    """The sum of the losses of the first three steps in float64, from the weights of `Run`."""
    import tensorflow as tf

    from tests.training.reference import reference
    from tests.training.tiny import tiny_split

    model = one_stage("float64")
    for mine, theirs in zip(model.variables, one_stage("float32").variables, strict=True):
        mine.assign(tf.cast(theirs.value, tf.float64))
    split = tiny_split(EXAMPLES)
    losses, _ = reference(3, replicas, accumulate, model=model, split=split, batch=BATCH, rate=RATE)
    return sum(losses)


def main():
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    made = runtime.setup(RuntimeConfig(strategy="multi_worker"))
    found = {text: run(Cell.parse(text), made.strategy, made.hosted) for text in sys.argv[1:]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
