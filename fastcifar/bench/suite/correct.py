"""The part of the suite that asks whether the device computes the right thing.

    python -m fastcifar.bench.suite.correct --out FILE [--small]

    references/OPERATION    compiled on the device, against what NumPy and Pillow make of the case
    compiled/POLICY         of operations and policies: compiled on the device, against the same
                            draws computed eagerly on the CPU, which the tests hold to NumPy
    two parts/…             losses of the step on one device split into two under MirroredStrategy,
                            against one whole device that takes a batch in two parts
    tests/augment           the tests of `fastcifar.augment`, where pytest and the tests are at hand

A device split into two computes no faster: `two parts` is about what is computed, nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from fastcifar import config_file, recipes
from fastcifar.bench.augmentation import names
from fastcifar.bench.measure import describe
from fastcifar.bench.processes import row_process
from fastcifar.bench.processes.row_process import Processes, Start
from fastcifar.bench.record import OK, Record, RecordFile, Row
from fastcifar.bench.suite.packages import ROOT
from fastcifar.bench.tables import failed, show
from fastcifar.config import Precision, RunConfig, RuntimeConfig
from fastcifar.environment import fingerprint
from fastcifar.errors import FastcifarError
from fastcifar.paths import given_path

REFERENCES, COMPILED, PARTS, TESTS = "references", "compiled", "two parts", "tests/augment"
# Sums in another order move a value by this much, of 255; where a value is rounded or a pixel
# chosen, that can go either way, in so small a share of the values.
_SLACK, _SHARE = 0.05, 2e-3
_CLASSES, _COUNT, _SOURCE, _SIZE = 10, 16, 32, 40
# Relative deviation of a loss: rounding, which training amplifies from step to step.
_LOSS_LIMITS = {"float32": 2e-3, "mixed_bfloat16": 3e-2}
_STEPS = 4
_TESTS_S = 150.0
# Beside other processes on the device, in full float32.
_TESTS_ENVIRONMENT = {
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "NVIDIA_TF32_OVERRIDE": "0",
}


def measure_references(put: Callable[..., None], device: str) -> None:
    """Hold each operation, compiled on `device`, to its NumPy or Pillow reference."""
    import tensorflow as tf

    from fastcifar.augment import operations as op
    from fastcifar.augment.policies import Policy
    from fastcifar.bench.augmentation import references
    from fastcifar.bench.augmentation.rates import Function, our_function

    def on_device(operation: op.Operation) -> Function:
        policy = Policy("reference", (operation,))
        function = tf.function(
            our_function(policy, references.SIZE, references.COUNT), jit_compile=True
        )

        def apply(images: np.ndarray, labels: np.ndarray) -> Any:
            with tf.device(device):
                return function(tf.constant(images), tf.constant(labels))

        return apply

    for name, (section, policy) in names.subjects().items():
        if section == names.OPERATIONS:
            row = f"{REFERENCES}/{name}"
            put(_row(row, partial(references.agrees, policy.operations[0], on_device)))


def measure_compiled(put: Callable[..., None], device: str, *, small: bool) -> None:
    """Hold policies and, unless `small`, operations, compiled on `device`, to the eager CPU."""
    for name, (section, policy) in names.subjects().items():
        if small and section == names.OPERATIONS:
            continue
        try:
            put(compare(f"{COMPILED}/{name}", *both(policy, device)))
        except Exception as error:
            put(Row(f"{COMPILED}/{name}", error=describe(error)))


def both(policy: Any, device: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(images and labels compiled on the device, the same eagerly on the CPU)."""
    import tensorflow as tf

    from fastcifar.augment.build import build

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_COUNT, _SOURCE, _SOURCE, 3), np.uint8)
    classes = np.arange(_COUNT) % _CLASSES
    labels: Any = np.eye(_CLASSES, dtype=np.float32)[classes] if policy.mixes else classes
    augment = build(policy, image_size=(_SIZE, _SIZE), num_classes=_CLASSES)

    def work(function: Callable[..., Any], where: str) -> list[np.ndarray]:
        with tf.device(where):
            places = np.arange(_COUNT, dtype=np.int64)  # as positions and as indices
            given = (images, labels, np.array([7, 3], np.int64), places, places)
            return [tensor.numpy() for tensor in function(*map(tf.constant, given))]

    return work(tf.function(augment, jit_compile=True), device), work(augment, "CPU:0")


def compare(name: str, received: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> Row:
    """The row of images and labels that have to be the same up to rounding."""
    (images, labels), (their_images, their_labels) = received, expected
    if images.shape != their_images.shape or not np.all(np.isfinite(images)):
        return Row(name, check="failed: images must be finite and of the same shape")
    off = np.abs(images.astype(np.float64) - their_images)
    differing = float(np.mean(off > _SLACK))
    if not np.allclose(labels, their_labels, atol=1e-5):
        return Row(name, check="failed: the labels differ")
    if differing > _SHARE:
        return Row(
            name,
            check=f"failed: {differing:.2%} of the values are off, by up to {off.max():.3g} of 255",
        )
    # What is off in a few values was rounded or chosen the other way.
    usual = float(off[off <= _SLACK].max(initial=0.0))
    return Row(name, figures={"farthest": usual, "differing": differing})


def measure_parts(put: Callable[..., None], start: Start, *, small: bool) -> None:
    """Hold the step on two halves of a device to the step on the whole of it.

    Two replicas normalise each its half of the batch; so does one that takes the batch in two parts
    (`--accumulate 2`), and losses have to be the same as long as the updates are.
    """
    for precision in _LOSS_LIMITS:
        for how in ("off", "on"):
            name = f"{PARTS}/{precision}{' xla' if how == 'on' else ''}"
            try:
                put(_parts_row(name, precision, how, start, small))
            except Exception as error:
                put(Row(name, error=describe(error)))


def _parts_row(name: str, precision: str, how: str, start: Start, small: bool) -> Row:
    whole = _config(precision, how, small)
    accumulated = dataclasses.replace(
        whole, optimizer=dataclasses.replace(whole.optimizer, accumulate=2)
    )
    split = dataclasses.replace(
        whole,
        runtime=dataclasses.replace(whole.runtime, logical_devices=2, gpu_memory_limit="8GB"),
    )
    with Processes(start) as processes:
        expected, _ = _losses(processes, "whole", accumulated)
        # Each of the parts takes its memory at once.
        processes.close("whole")
        received, agree = _losses(processes, "split", split)
    if not agree:
        return Row(name, check="failed: the two replicas hold different weights")
    if None in expected or None in received:
        return Row(name, check="failed: the loss must be finite")
    pairs = zip(cast(list[float], received), cast(list[float], expected), strict=True)
    error = max(abs(one - other) / abs(other) for one, other in pairs)
    if not error < _LOSS_LIMITS[precision]:
        return Row(name, check=f"failed: losses {received} instead of {expected}")
    return Row(name, check=OK, figures={"relative_error": error, "losses": received})


def _losses(processes: Processes, name: str, config: RunConfig) -> tuple[list[float | None], bool]:
    process = processes.start(name)
    process.ask("prepare", config=config_file.to_dict(config), keep_weights=True)
    process.ask("begin")
    losses = process.ask("losses", steps=_STEPS)["losses"]
    return losses, process.ask("replicas_agree")


def _config(precision: str, how: str, small: bool) -> RunConfig:
    base = recipes.get("cifar10-32px")
    return dataclasses.replace(
        base,
        global_batch_size=16 if small else 128,
        data=dataclasses.replace(
            base.data, source="synthetic", synthetic_count=512, validation_fraction=0.0
        ),
        model=dataclasses.replace(
            base.model, depth=14 if small else 50, width=4 if small else 64, stem="cifar"
        ),
        # A small rate, so that rounding stays small.
        optimizer=dataclasses.replace(base.optimizer, optimizer="sgd"),
        phases=(dataclasses.replace(base.phases[0], learning_rate=1e-3, augment="standard"),),
        runtime=RuntimeConfig(
            precision=cast(Precision, precision), xla=cast(Any, how), tf32=False, devices=1
        ),
    )


def measure_tests(put: Callable[..., None]) -> None:
    """Run the tests of `fastcifar.augment` on whatever device TensorFlow chooses."""
    folder = ROOT / "tests" / "augment"
    lacking = [m for m in ("pytest", "hypothesis") if importlib.util.find_spec(m) is None]
    if lacking or not folder.is_dir():
        why = f"{', '.join(lacking)} is missing" if lacking else "the tests are not here"
        put(Row(TESTS, check=f"not run: {why}"))
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    try:
        done = subprocess.run(
            [*command, str(folder)],
            cwd=ROOT,
            env=os.environ | _TESTS_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=_TESTS_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        put(Row(TESTS, check=f"not run: {_TESTS_S:.0f} s were not enough"))
        return
    put(judge_tests(done.stdout, done.returncode))


def judge_tests(said: str, status: int) -> Row:
    """The row of what pytest says at its end."""
    lines = said.strip().splitlines()
    counts = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", lines[-1] if lines else "")
    summary = ", ".join(counts) or "no test"
    if status or not any("passed" in count for count in counts):
        named = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
        return Row(TESTS, check=f"failed: {summary}; {'; '.join(named[:5])}")
    return Row(TESTS, figures={"tests": summary})


def _row(name: str, check: Callable[[], str]) -> Row:
    try:
        return Row(name, check=check())
    except Exception as error:
        return Row(name, error=describe(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m fastcifar.bench.suite.correct")
    parser.add_argument("--out", type=given_path, required=True)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args(argv)
    from fastcifar import runtime

    try:
        # Without TF32, so that what is off is not explained by it.
        chosen = runtime.setup(RuntimeConfig(devices=1, tf32=False))
        (device,) = runtime.replica_devices(chosen.strategy)
        found = fingerprint(list(chosen.gpus), dict(chosen.threads))
        file = RecordFile(given.out, Record("correct", "scripts/gpu_suite OUT correct", found, {}))
        measure_references(file.put, device)
        measure_compiled(file.put, device, small=given.small)
        measure_parts(file.put, row_process.start, small=given.small)
        if not given.small:
            measure_tests(file.put)
    except FastcifarError as error:
        print(f"fastcifar: error: {error}", file=sys.stderr)
        return error.exit_status
    show(file.record)
    return 1 if failed(file.record) else 0


if __name__ == "__main__":
    sys.exit(main())
