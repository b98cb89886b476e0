"""What a row's own process does: it prepares a configuration and measures it when it is asked.

    python -m fastcifar.bench.processes.worker

reads questions from stdin, a JSON object a line with the key "do", and answers each with a line on
stdout: {"answer": …}, or {"error": …, "kind": …}. What it measures are the functions of training,
by `fastcifar.bench.subject`. TensorFlow is imported by the first question only, after what it reads
from the environment has been set.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from fastcifar import config_file, environment, runtime
from fastcifar.bench.measure import describe
from fastcifar.bench.record import Row
from fastcifar.errors import FastcifarError, UserError
from fastcifar.surroundings import settle_program

# Kinds of errors.
MEMORY, USER, OURS, OTHER = "memory", "user", "fastcifar", "other"
# Steps whose shortest tells what of the first call was compilation.
_STEADY = 2


class Worker:
    """Answers questions about one configuration.

    Args:
        created: seconds since the epoch at which the process was made; now by default.
    """

    def __init__(self, created: float | None = None):
        self._created = time.time() if created is None else created
        self._questions: dict[str, Callable[..., Any]] = {
            "prepare": self.prepare,
            "first_step": self.first_step,
            "calibrate": self.calibrate,
            "drain": self.drain,
            "run": self.run,
            "resident": self.resident,
            "begin": self.begin,
            "losses": self.losses,
            "reduction": self.reduction,
            "replicas_agree": self.replicas_agree,
            "peaks": self.peaks,
            "arithmetic": self.arithmetic,
            "stages": self.stages,
            "prepare_runs": self.prepare_runs,
            "train": self.train,
            "write_hlo": self.write_hlo,
        }
        self._driver: Any = None
        self._runs: Any = None
        self._curve: Any = None
        self._resident: Any = None
        self._reduction: Any = None

    def answer(self, do: str, **arguments: Any) -> Any:
        """Answer a question; see the methods."""
        return self._questions[do](**arguments)

    def prepare(
        self,
        config: dict[str, Any],
        *,
        keep_weights: bool = False,
        per_image: bool = False,
        held: bool = False,
    ) -> dict[str, Any]:
        """Import TensorFlow, set devices, data and network up, open the input, build the step.

        Args:
            config: see `fastcifar.config_file`.
            keep_weights: remember the first weights, which `begin` goes back to.
            per_image: read and transform image by image (`fastcifar.bench.textbook`).
            held: feed the step by one batch that lies on the device instead of by the pipeline.

        Returns:
            import_s: from the making of the process to the end of the imports.
            build_s: what came after.
            environment, replicas, gpus, precision, xla: what was chosen.
            image_bytes: of an image as it is kept, in uint8.
            weights_sha256: of the first weights.
        """
        run_config = config_file.from_dict(config)
        runtime.prepare_environment(run_config.runtime)
        import tensorflow as tf

        from fastcifar.bench import textbook
        from fastcifar.bench.subject import Driver, Subject, hold
        from fastcifar.training.phase import build_step, open_batches
        from fastcifar.training.preparation import prepare
        from fastcifar.training.progress import Display
        from fastcifar.training.state import weights_sha256

        tf.get_logger().setLevel("ERROR")
        import_s = time.time() - self._created
        began = time.perf_counter()
        prepared = prepare(run_config, Display(quiet=True))
        subject = Subject.of(run_config, prepared)
        self._subject = subject
        self._weights = prepared.state.arrays() if keep_weights else None
        self._open = textbook.open_batches if per_image else open_batches
        self._step = build_step(subject.config, prepared, subject.phase)
        given = (subject.config, prepared, subject.phase, 0)
        batches = hold(subject) if held else self._open(*given)
        self._driver = Driver(subject, self._step, batches)
        return {
            "import_s": import_s,
            "build_s": time.perf_counter() - began,
            "environment": prepared.environment,
            "replicas": prepared.runtime.replicas,
            "gpus": list(prepared.runtime.gpus),
            "precision": prepared.runtime.precision,
            "xla": prepared.runtime.xla,
            "image_bytes": math.prod(prepared.splits.train.image_shape),
            "weights_sha256": weights_sha256(prepared.model),
        }

    def first_step(self) -> dict[str, float | None]:
        """Trace, compile and run the first step.

        Returns:
            trace_s: to trace the step.
            compile_s: of the first call, what a later one does not take.
            step_s: a later step.
            startup_s: from the making of the process to the end of the first step.
            first_loss: mean loss of the first batch.
        """
        trace_s = self._seconds(self._driver.trace)
        call_s = self._seconds(self._driver.run)
        startup_s = time.time() - self._created
        first_loss = self._driver.mean_loss
        step_s = min(self._seconds(self._driver.run) for _ in range(_STEADY))
        return {
            "trace_s": trace_s,
            "compile_s": max(0.0, call_s - step_s),
            "step_s": step_s,
            "startup_s": startup_s,
            "first_loss": _number(first_loss),
        }

    def calibrate(self, share: float = 1.0, step_s: float | None = None) -> dict[str, Any]:
        """Warm up, and let a piece of work last `share` of `subject.PIECE_S` seconds.

        Args:
            share: of a piece of the usual length.
            step_s: what a step takes, where that is known.

        Returns:
            check: whether the loss is finite.
            steps: of a call.
        """
        from fastcifar.bench import subject

        if step_s is None:
            self._driver.calibrate(share)
        else:
            self._driver.last_for(share * subject.PIECE_S, step_s)
        return {"check": subject.finite(self._driver), "steps": self._driver.steps}

    def drain(self) -> None:
        """Throw away the batches that were prepared while others were measured."""
        self._driver.drain()

    def run(self) -> float:
        """Run a piece of the real path; returns its images."""
        return self._driver.run()

    def resident(self) -> float:
        """Run a piece of the step alone, on a batch that lies on the device; returns its images."""
        from fastcifar.bench.subject import Driver, hold

        if self._resident is None:
            # A step of its own: one that is fed by another kind of iterator is traced again.
            from fastcifar.training.phase import build_step

            subject = self._subject
            step = build_step(subject.config, subject.prepared, subject.phase)
            self._resident = Driver(subject, step, hold(subject))
            self._resident.run()
        self._resident.steps, self._resident.calls = self._driver.steps, self._driver.calls
        return self._resident.run()

    def begin(self, *, nudged: bool = False) -> None:
        """Go back to the first weights and the first batch, for `losses`.

        Args:
            nudged: move each weight to the next number of its type: what the rounding of one
                operation does.
        """
        import numpy as np

        from fastcifar.bench.subject import Driver
        from fastcifar.training.state import WEIGHTS

        assert self._weights is not None  # asked to keep them
        subject, weights = self._subject, self._weights
        if nudged:
            trained = {f"{WEIGHTS}{path}" for path in subject.prepared.state.trainable_paths}
            weights = {
                name: np.nextafter(value, np.float32(np.inf)) if name in trained else value
                for name, value in weights.items()
            }
        subject.prepared.state.restore(weights)
        batches = self._open(subject.config, subject.prepared, subject.phase, 0)
        self._curve = Driver(subject, self._step, batches)

    def losses(self, steps: int) -> dict[str, list[float | None]]:
        """Train `steps` more steps since `begin`, one a call.

        Returns:
            losses: mean loss of each step, None where it is not finite.
            seconds: that each took.
        """
        seconds: list[float | None] = []
        found: list[float | None] = []
        for _ in range(steps):
            seconds.append(self._seconds(self._curve.run))
            found.append(_number(self._curve.mean_loss))
        return {"losses": found, "seconds": seconds}

    def reduction(self) -> float:
        """Add up gradients across replicas, as often as a piece of the step does; its images."""
        from fastcifar.bench.reduction import Reduction

        if self._reduction is None:
            self._reduction = Reduction.of_step(self._subject)
            self._reduction.run(1)  # traces
        self._reduction.run(self._driver.steps * self._driver.calls)
        return self._driver.images

    def replicas_agree(self) -> bool:
        """Whether every replica holds the same weights, bit for bit."""
        import numpy as np

        prepared = self._subject.prepared
        for _, variable in prepared.state.variables():
            copies = prepared.runtime.strategy.experimental_local_results(variable)
            first, *others = (copy.numpy() for copy in copies)
            if not all(np.array_equal(first, other, equal_nan=True) for other in others):
                return False
        return True

    def peaks(self) -> dict[str, int | None]:
        """Peak memory of this process so far, in bytes."""
        return {
            "peak_host_bytes": environment.peak_host_bytes(),
            "peak_device_bytes": runtime.peak_device_bytes(),
        }

    def arithmetic(self, peak_seconds: float = 1.0) -> dict[str, float]:
        """What the network asks for, and what the device gives at best in its compute dtype.

        Args:
            peak_seconds: for each of the two peaks.

        Returns:
            flops_per_image: of a training step of the whole network.
            peak_flops_per_s, peak_bytes_per_s: see `fastcifar.bench.arithmetic.Arithmetic`.
        """
        from fastcifar.bench import arithmetic, compute

        found = arithmetic.of(self._subject, peak_seconds)
        return {"flops_per_image": compute.TRAINING_FACTOR * found.forward_flops, **found.peaks}

    def stages(self, seconds: float) -> dict[str, Any]:
        """Measure the stages of a step for so many seconds.

        Returns:
            bound_by: the stage that bounds it (`fastcifar.bench.verdict`), or None.
            us_per_image: of every stage that a step pays and that is not lost in the noise.
        """
        from fastcifar.bench.stage_names import EACH_STEP, END_TO_END
        from fastcifar.bench.stages import StagesPlan, measure_stages

        found: dict[str, Row] = {}
        measure_stages(
            self._subject.config,
            self._subject.prepared,
            # Short pieces: many rounds, or the verdict has nothing to go by.
            StagesPlan(seconds=seconds, peak_seconds=0.1, piece=0.2),
            lambda *rows: found.update({row.name: row for row in rows}),
        )
        times = {
            name: row.figures["us_per_image"]
            for name, row in found.items()
            if row.images_per_s is not None and row.figures["paid"] == EACH_STEP
        }
        return {"bound_by": found[END_TO_END].figures.get("bound_by"), "us_per_image": times}

    def prepare_runs(self, config: dict[str, Any]) -> dict[str, Any]:
        """Set up for runs that differ in their seed; returns the `environment`."""
        run_config = config_file.from_dict(config)
        runtime.prepare_environment(run_config.runtime)
        from fastcifar.bench.seeded import SeededRuns

        self._runs = SeededRuns(run_config)
        return {"environment": self._runs.prepared.environment}

    def train(self, seed: int, run_dir: str) -> dict[str, Any]:
        """Run a training by its seed; returns its summary with its `metrics`."""
        return self._runs.run(seed, run_dir)

    def write_hlo(self, config: dict[str, Any], path: str) -> list[str]:
        """Write the compiled step (`fastcifar.bench.step_hlo`); returns the paths of the files."""
        run_config = config_file.from_dict(config)
        runtime.prepare_environment(run_config.runtime)
        from fastcifar.bench.step_hlo import write_step

        return [str(written) for written in write_step(run_config, Path(path))]

    @staticmethod
    def _seconds(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def kind_of(error: Exception) -> str:
    """Whose error it is: `memory`, `user`, `fastcifar` or `other`."""
    if isinstance(error, UserError):
        return USER
    if isinstance(error, FastcifarError):
        return OURS
    # By name: TensorFlow may not have been imported. XLA says it in words only.
    names = {cls.__name__ for cls in type(error).__mro__}
    text = str(error)
    if {"ResourceExhaustedError", "MemoryError"} & names or "RESOURCE_EXHAUSTED" in text:
        return MEMORY
    return OTHER


def serve(questions: IO[str], answers: IO[str], worker: Worker) -> None:
    """Answer questions until there are no more."""
    for line in questions:
        try:
            answer = {"answer": worker.answer(**json.loads(line))}
        except Exception as error:
            kind = kind_of(error)
            text = str(error) if kind in (USER, OURS) else describe(error)
            answer = {"error": text, "kind": kind}
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()


def main() -> None:
    """Serve stdin and stdout."""
    import psutil

    settle_program()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever else is printed in this process must not end up among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers, Worker(psutil.Process().create_time()))


if __name__ == "__main__":
    main()
