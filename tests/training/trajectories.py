"""Twenty steps in float64 in every layout: how far the weights of two layouts part.

As a program it prints a table: `python -m tests.training.trajectories`. With the name of a file it
is one worker of two, and writes its weights there.
"""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS, BATCH, EXAMPLES, RATE = 20, 128, 384, 0.05
# Variants by name: replicas, BatchNorm (none, each replica's own, synchronised), XLA, parts.
VARIANTS = {
    "1 replica": (1, "own", False, 1),
    "1 replica, XLA": (1, "own", True, 1),
    "2 replicas, sync": (2, "sync", False, 1),
    "4 replicas, sync": (4, "sync", False, 1),
    "2 replicas": (2, "own", False, 1),
    "2 replicas, XLA": (2, "own", True, 1),
    "no BatchNorm, 1 × 128": (1, "none", False, 1),
    "no BatchNorm, 4 × 32": (1, "none", False, 4),
}
WORKERS = "2 workers"
# What is the same training, in two layouts.
PAIRS = (
    ("1 replica", "2 replicas, sync"),
    ("1 replica", "4 replicas, sync"),
    ("1 replica", "1 replica, XLA"),
    ("2 replicas", "2 replicas, XLA"),
    ("2 replicas", WORKERS),
    ("no BatchNorm, 1 × 128", "no BatchNorm, 4 × 32"),
)
# Not the same training: that pairs agree is news only if these do not.
APART = ("1 replica", "2 replicas")


def train(strategy, norm, xla, parts, hosted=None):
    """Run the steps; return the weights by name."""
    from fastcifar.config import OptimizerConfig
    from tests.training.tiny import Run, tiny_model, tiny_resnet, tiny_split

    build = {
        "none": functools.partial(tiny_model, batch_norm=False),
        "own": tiny_resnet,
        "sync": functools.partial(tiny_resnet, sync_batch_norm=True),
    }[norm]
    run = Run(
        strategy=strategy,
        dtype="float64",
        xla=xla,
        build=build,
        split=tiny_split(EXAMPLES),
        global_batch_size=BATCH,
        optimizer=OptimizerConfig(accumulate=parts),
        sync_batch_norm=norm == "sync",
        hosted=hosted,
        rate=RATE,
        steps=STEPS,
    )
    run.run(STEPS)
    return run.arrays()


def deviation(one, other):
    """The largest difference of a variable, relative to its largest value."""
    return max(
        float(np.abs(one[name] - other[name]).max() / max(np.abs(one[name]).max(), 1e-12))
        for name in one
    )


def measure():
    """Train all variants in this process and two workers in theirs: deviations by pair."""
    import tensorflow as tf

    from tests.training.tiny import mirrored

    tf.get_logger().setLevel("ERROR")  # that every variant is traced anew is meant
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    weights = {}
    for name, (replicas, *rest) in VARIANTS.items():
        strategy = mirrored(replicas) if replicas > 1 else tf.distribute.get_strategy()
        weights[name] = train(strategy, *rest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        launch = [sys.executable, "scripts/launch_workers", "2", sys.executable, "-m"]
        command = [*launch, "tests.training.trajectories", str(path)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        with np.load(path) as found:
            weights[WORKERS] = dict(found)
    return {pair: deviation(*(weights[name] for name in pair)) for pair in (*PAIRS, APART)}


def work(path):
    """Be one worker of two; the chief writes its weights."""
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    made = runtime.setup(RuntimeConfig(strategy="multi_worker"))
    found = train(made.strategy, "own", False, 1, made.hosted)
    if made.is_chief:
        np.savez(path, **found)


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:]:
        work(sys.argv[1])
        return
    print(f"| after {STEPS} steps in float64 | and | largest relative deviation |")
    print("| --- | --- | ---: |")
    for (one, other), found in measure().items():
        print(f"| {one} | {other} | {found:.1e} |")


if __name__ == "__main__":
    main()
