"""The trainer: the only place where all parts meet."""

from __future__ import annotations

import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar import runtime
from fastcifar.augment import policies
from fastcifar.config import RunConfig
from fastcifar.data.identity import identify
from fastcifar.data.records import refusing_damage
from fastcifar.errors import ConfigError, DeviceMemoryError, DivergenceError
from fastcifar.evaluation.evaluate import Evaluation, Evaluator
from fastcifar.models.losses import describe_objective
from fastcifar.rundir import RunDir
from fastcifar.timing import Stopwatch
from fastcifar.training import checkpoints, differences, divergence, feature_cache, same_data
from fastcifar.training.assembly import named_run
from fastcifar.training.calls import Calls
from fastcifar.training.checkpoints import Checkpoints, Progress
from fastcifar.training.device_memory import refusing_exhaustion
from fastcifar.training.event_log import EventLog
from fastcifar.training.feature_cache import PhaseFeatures, open_cache
from fastcifar.training.interrupts import Interrupted, Interrupts
from fastcifar.training.phase import Phase, build_step, open_batches, plan
from fastcifar.training.preparation import Prepared, describe, prepare
from fastcifar.training.profiling import Profiler
from fastcifar.training.progress import Display, epoch_line
from fastcifar.training.step import StepMetrics, TrainStep
from fastcifar.training.summary import finite, parameters, ratio, summarise
from fastcifar.training.workers import Workers
from fastcifar.wording import counted

# Test images kept with their predictions for the plot of samples.
_SAMPLES = 25


def train(
    config: RunConfig,
    run_dir: str,
    *,
    resume: bool = False,
    allow_changed_data: bool = False,
    display: Display | None = None,
    typed: Collection[str] = (),
    notes_on_flags: Sequence[str] = (),
) -> dict[str, Any]:
    """Train as `config` says, into the folder `run_dir`; return the summary.

    Args:
        config: the resolved configuration.
        run_dir: a folder that holds no run yet; with `resume`, one that does.
        resume: go on from the newest good checkpoint, or from the start where there is none yet.
        allow_changed_data: go on with other images than the run, or the one whose weights it starts
            from, was trained on (`fastcifar.training.same_data`); a warning says so.
        display: where progress is shown; nowhere by default.
        typed, notes_on_flags: see `fastcifar.training.preparation.prepare`.

    Raises:
        UserError: for anything the configuration asks that this machine or data cannot do.
        DivergenceError: if the loss or the state stops being finite, and the run is not to go back
            to the last good checkpoint, which stays.
        Interrupted: on SIGINT or SIGTERM, after a checkpoint has been written.
    """
    display = display or Display(quiet=True)
    clock = Stopwatch("startup")
    try:
        # Folder first: a mistake there must not cost the time it takes to load the data.
        cluster = runtime.find_cluster(config.runtime)
        chief = cluster is None or cluster.index == 0
        run, resumed = RunDir(run_dir), None
        if resume:
            run = RunDir.open(run_dir)
            kept = Checkpoints(run.checkpoints_path)
            resumed = kept.newest_good() if kept.paths() else None
            summary = run.read_summary()
            if resumed is None:
                display.line("no checkpoint was written yet: the run starts at its first step")
            elif (
                summary is not None
                and resumed[2].step == config.epochs * resumed[2].steps_per_epoch
            ):
                display.line("the run is finished, and its test images are not evaluated again")
                return summary
        elif chief:
            run.check_unused()
        feature_cache.check(config)
        if cluster is not None:
            display.log_to(run.worker_log_path(cluster.index))
        fresh = resumed is None
        with _fitting(config, run):
            prepared = prepare(
                config,
                display,
                fresh=fresh,
                allow_changed_data=allow_changed_data,
                typed=typed,
                notes_on_flags=notes_on_flags,
            )
        config = prepared.config
        feature_cache.check_memory(prepared)
        if config.test_weights == "best" and prepared.splits.validation is None:
            raise ConfigError(
                "test-weights best needs validation images: add --validation-fraction, or leave "
                "--test-weights out"
            )
        if chief and not resume:
            data = same_data.describe(prepared.splits, named_run(config.model.weights))
            run = RunDir.create(run_dir, config, prepared.environment, data)
        workers = Workers(prepared.runtime.strategy, cluster)
        fitting = _fitting(config, run, made=chief and not resume)
        with Interrupts() as interrupts, fitting, workers.watched(), refusing_damage():
            training = Training(config, run, prepared, clock, display, interrupts, workers)
            changed: Sequence[str] = ()
            if resume:
                before = Progress() if resumed is None else resumed[2]
                changed = training.check_data(before, allow_changed=allow_changed_data)
            if resumed is not None:
                training.restore(*resumed)
            for warning in (*(prepared.warnings if resumed is None else ()), *changed):
                training.warn(warning)
            return training.run()
    finally:
        display.close()


@contextmanager
def _fitting(config: RunConfig, run: RunDir, *, made: bool = False) -> Iterator[None]:
    """Say in one line what did not fit into a device; a folder made for it is then free again."""
    sizes = {phase.image_size for phase in config.phases}
    doing = f"training on {config.global_batch_size} images of {max(sizes)} px in a step"
    less = (
        "Lower --global-batch-size or --image-size, or compute a batch in parts by --accumulate "
        f"(now {config.optimizer.accumulate})"
    )
    kept = Checkpoints(run.checkpoints_path)
    try:
        with refusing_exhaustion(doing, less):
            yield
    except DeviceMemoryError as error:
        if kept.paths():
            raise DeviceMemoryError(
                f"{error}, in another --run-dir; the last checkpoint is intact, and --resume may "
                "use more --devices or another --precision"
            ) from error
        if made:
            run.withdraw()
        raise


class Training:
    """The loop over phases, epochs and calls, and what happens between them.

    Args:
        config: of the run, settled (`Prepared.config`).
        run: the folder to write into.
        prepared: the run's parts.
        clock: runs since the start of the process's work.
        display: where progress is shown.
        interrupts: entered, so that signals are answered.
        workers: those that train together.

    Attributes:
        phases: what is trained, in order.
        steps: the compiled steps so far, by `Phase.program`.
        evaluators: the compiled evaluators so far, by image size and views of an image.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDir,
        prepared: Prepared,
        clock: Stopwatch,
        display: Display,
        interrupts: Interrupts,
        workers: Workers,
    ):
        self.config = config
        self.run_dir = run
        self.prepared = prepared
        self.features = open_cache(config, prepared, display)
        self.clock = clock
        self.display = display
        self.interrupts = interrupts
        self.workers = workers
        # One process writes the run folder; what it writes, all have computed.
        self.writes = prepared.runtime.is_chief
        self.checkpoints = Checkpoints(run.checkpoints_path)
        self.progress = Progress(
            steps_per_epoch=prepared.steps_per_epoch, data=identify(prepared.splits)
        )
        self.seconds_before: dict[str, float] = {}
        self.phases = plan(config, prepared)
        self.evaluators: dict[tuple[int, str], Evaluator] = {}
        self.steps: dict[tuple[Any, ...], TrainStep] = {}
        self.event_log = EventLog(run.tensorboard_path)
        # One worker's trace tells of all.
        self.profiler = Profiler(
            run.tensorboard_path if self.writes else None, config.runtime.profile
        )

    def check_data(self, before: Progress, *, allow_changed: bool) -> list[str]:
        """Compare the data with that of a checkpoint, or of the start; return what to warn of."""
        notes, warnings = same_data.check_resumed(
            self.run_dir, before, self.prepared.splits, allow=allow_changed, write=self.writes
        )
        for note in notes:
            self.display.line(note)
        return warnings

    def restore(self, path: Path, arrays: dict[str, np.ndarray], progress: Progress) -> None:
        """Go on from a checkpoint; what differs from the machine it comes from is a warning."""
        if progress.steps_per_epoch != self.prepared.steps_per_epoch:
            raise ConfigError(
                "a resumed run must have the data and batch size it was started with, "
                f"{progress.steps_per_epoch} steps per epoch. "
                f"Received: {self.prepared.steps_per_epoch}"
            )
        self.workers.check_same(
            "the step of the newest checkpoint",
            progress.step,
            "the run folder must be on a file system that all of them see",
        )
        self.prepared.state.restore(arrays)
        self.progress = dataclasses.replace(progress, data=self.progress.data)
        self.seconds_before = dict(progress.seconds)
        before = self.run_dir.read_environment()
        for difference in differences.of_resumed(before, self.prepared.environment):
            self.warn(difference)
        newest = self.checkpoints.newest()
        if path != newest:
            self.warn(f"{newest.name} holds values that are not finite: resumed from {path.name}")
            self._drop_after(progress.step)
        self.display.line(f"resumed at step {progress.step}")

    def warn(self, text: str) -> None:
        """Show a warning, and keep it for the summary."""
        if text not in self.progress.warnings:
            self.progress.warnings.append(text)
        self.display.line(f"warning: {text}")

    def run(self) -> dict[str, Any]:
        """Run what is left of the phases, then evaluate on the test split."""
        for line in describe(self.prepared):
            self.display.line(line)
        self.display.line(
            f"ResNet{self.config.model.depth}, {parameters(self.prepared.model):,} parameters; "
            f"into {self.run_dir.path}"
        )
        if self.config.on_divergence == "rollback" and not self.checkpoints.paths():
            self._save(best=False)  # the start is a place to go back to
        while self.progress.step < self.phases[-1].last_step:
            phase = next(p for p in self.phases if self.progress.step < p.last_step)
            try:
                self._run_phase(self._scaled(phase))
            except DivergenceError as error:
                self._roll_back(error)
        return self._finish()

    def _scaled(self, phase: Phase) -> Phase:
        """The phase with its rates as rollbacks have left them."""
        return dataclasses.replace(phase, rates=phase.rates * self.progress.rate_scale)

    def _roll_back(self, error: DivergenceError) -> None:
        """Go back to the last good checkpoint, or end with the error where the run is not to."""
        self.display.close()
        arrays, progress = divergence.way_back(error, self.checkpoints, self.progress, self.config)
        self.workers.check_same(
            "the step of the newest good checkpoint",
            progress.step,
            "the run folder must be on a file system that all of them see",
        )
        self.prepared.state.restore(arrays)
        self.progress = progress
        self.warn(f"{error}: back to step {progress.step}, rates times {progress.rate_scale:g}")
        self._drop_after(progress.step)
        self.steps = {}  # which hold the rates before
        # Again, so that a run that is stopped before the next one knows its scale.
        self._save(best=False)

    def _drop_after(self, step: int) -> None:
        if self.writes:
            self.checkpoints.drop_after(step)

    def _evaluator(self, phase: Phase, views: str = "none") -> Evaluator:
        """The evaluator at the image size of `phase`: compiled once for each size and `views`."""
        key = phase.config.image_size, views
        if key not in self.evaluators:
            self.evaluators[key] = self._make_evaluator(
                self.prepared.model,
                phase.transforms.for_evaluation,
                self.prepared.state.averages,
                views,
            )
        return self.evaluators[key]

    def _make_evaluator(
        self,
        model: keras.Model,
        preprocess: Callable[[tf.Tensor], tf.Tensor],
        weights: Sequence[tf.Variable],
        views: str = "none",
    ) -> Evaluator:
        return Evaluator(
            model=model,
            preprocess=preprocess,
            strategy=self.prepared.runtime.strategy,
            xla=self.prepared.runtime.xla,
            # Parts fit into memory where the whole might not.
            global_batch_size=self.config.global_batch_size // self.config.optimizer.accumulate,
            views=views,
            weights=weights,
            hosted=self.prepared.runtime.hosted,
        )

    def _run_phase(self, phase: Phase) -> None:
        if phase.starts_anew and self.progress.step == phase.first_step:
            self.prepared.state.forget_updates()
        features = self._features(phase)
        head = None if features is None else features.head
        if phase.program not in self.steps:
            phases = [self._scaled(each) for each in self.phases]
            step = build_step(self.config, self.prepared, phase, phases, head)
            self.steps[phase.program] = step
        trained_on = None if features is None else features.train
        calls = Calls(
            self.steps[phase.program],
            open_batches(self.config, self.prepared, phase, self.progress.step, trained_on),
            self.config.runtime.steps_per_call,
            agree=lambda seconds: self.workers.mean([seconds])[0],
        )
        validate = self._validation(phase, features)
        while self.progress.step < phase.last_step:
            self._run_epoch(phase, calls, validate)

    def _features(self, phase: Phase) -> PhaseFeatures | None:
        """What `phase` trains on in place of images; None where it is images."""
        if self.features is None:
            return None
        if not phase.on_features:
            self.features.forget()
            return None
        # Workers compute features without a word to each other: one may have them on its disk.
        alone = self.prepared.runtime.cluster is None
        with self.clock.account("features"):
            return self.features.of(phase, self._stop_if_asked if alone else None)

    def _validation(
        self, phase: Phase, features: PhaseFeatures | None
    ) -> Callable[[], Evaluation] | None:
        """What evaluates on the validation images at the end of an epoch; None without any."""
        split = self.prepared.splits.validation
        if split is None:
            return None
        if features is None or features.validation is None:
            return functools.partial(self._evaluator(phase), split)
        evaluator = self._make_evaluator(features.head, tf.identity, features.averages)
        return functools.partial(evaluator, features.validation)

    def _run_epoch(
        self, phase: Phase, calls: Calls, validate: Callable[[], Evaluation] | None
    ) -> None:
        per_epoch = self.prepared.steps_per_epoch
        epoch = self.progress.step // per_epoch
        end = (epoch + 1) * per_epoch
        self.display.epoch(
            f"epoch {epoch + 1}/{self.config.epochs}", per_epoch, self.progress.step % per_epoch
        )
        while self.progress.step < end:
            self._stop_if_asked()
            if self.profiler.wants(calls.done):
                self._profile(calls, end)
                continue
            compiles = calls.compiles
            began = time.perf_counter()
            with self.clock.account("startup" if compiles else "train"):
                steps, metrics = calls.run(self.progress.step, end - self.progress.step)
            seconds = 0.0 if compiles else time.perf_counter() - began
            self._count(steps, metrics, seconds)
        self.display.close()
        self._end_epoch(phase, epoch, validate)

    def _profile(self, calls: Calls, end: int) -> None:
        """Run one call under the profiler, which slows it: it counts in no rate."""
        with self.clock.account("paused"), self.profiler.trace() as asked:
            steps, metrics = calls.run(self.progress.step, end - self.progress.step, asked)
        self._count(steps, metrics, 0.0)
        self.display.line(f"traced {counted(steps, 'step')} into {self.run_dir.tensorboard_path}")

    def _count(self, steps: int, metrics: StepMetrics, seconds: float) -> None:
        """Add a call to the epoch's sums; `seconds` is 0 for a call that compiled."""
        scale = float(self.prepared.state.loss_scale.numpy()) if metrics.skipped else 1.0
        divergence.check_call(metrics, self.progress.step + steps - 1, scale)
        self.progress.step += steps
        self.progress.skipped_steps += int(metrics.skipped)
        partial, images = self.progress.partial, steps * self.config.global_batch_size
        sums = {
            "loss": metrics.loss,
            "correct": metrics.correct,
            "images": metrics.images,
            "train_s": seconds,
            # A call that compiled counts in neither the time nor the images of the rate.
            "timed_images": float(images) if seconds else 0.0,
        }
        for name, value in sums.items():
            partial[name] = partial.get(name, 0.0) + value
        self.display.step(
            steps,
            loss=ratio(partial["loss"], partial["images"]) or 0.0,
            accuracy=ratio(partial["correct"], partial["images"]) or 0.0,
            images_per_s=images / seconds if seconds else 0.0,
        )

    def _end_epoch(
        self, phase: Phase, epoch: int, validate: Callable[[], Evaluation] | None
    ) -> None:
        progress, partial = self.progress, self.progress.partial
        divergence.check_epoch(epoch + 1, self.prepared.steps_per_epoch, partial["images"])
        began = time.perf_counter()
        with self.clock.account("paused"):
            validation = validate() if validate is not None else None
            best = False
            if validation is not None and not math.isfinite(validation.loss):
                divergence.check_state(self.prepared.state.arrays(), progress.step)
                self.warn(f"the validation loss of epoch {epoch + 1} is not finite")
            elif validation is not None and validation.accuracy > progress.best_accuracy:
                best = True
                progress.best_epoch, progress.best_accuracy = epoch + 1, validation.accuracy
            entry = {
                "epoch": epoch + 1,
                "step": progress.step,
                "phase": phase.config.name,
                "objective": describe_objective(
                    label_smoothing=self.config.optimizer.label_smoothing,
                    mixed=policies.get(phase.config.augment).mixes,
                ),
                "loss": ratio(partial["loss"], partial["images"]),
                "accuracy": ratio(partial["correct"], partial["images"]),
                "validation_loss": finite(validation.loss) if validation else None,
                "validation_accuracy": validation.accuracy if validation else None,
                "learning_rate": float(phase.rates[progress.step - phase.first_step - 1]),
                "rate_scale": progress.rate_scale,
                "images_per_s": ratio(partial["timed_images"], partial["train_s"]),
                "train_s": partial["train_s"],
                "paused_s": time.perf_counter() - began,
            }
            progress.epochs.append(entry)
            progress.partial = {}
            due = (epoch + 1) % self.config.checkpoint_every == 0
            if due or best or epoch + 1 == self.config.epochs:
                self._save(best=best)
            if self.writes:
                self.run_dir.write_metrics(progress.epochs)
                self.event_log.write(epoch + 1, entry)
        self.display.line(epoch_line(entry, self.config.epochs))

    def _save(self, *, best: bool) -> None:
        self.progress.seconds = self._seconds()
        # On all workers, though one of them writes: they must agree that it is good.
        arrays = self.prepared.state.arrays()
        divergence.check_state(arrays, self.progress.step)
        if self.writes:
            self.checkpoints.save(arrays, self.progress, best=best)

    def _seconds(self) -> dict[str, float]:
        """The clock's accounts, with those of the run before it was resumed."""
        return {
            name: self.seconds_before.get(name, 0.0) + self.clock.seconds(name)
            for name in ("startup", "features", "train", "paused")
        }

    def _stop_if_asked(self) -> None:
        """Stop where a signal was received, on this worker or on another one."""
        if self.workers.any(self.interrupts.received is not None):
            self._stop(self.interrupts.received or signal.SIGTERM)

    def _stop(self, signal_number: int) -> None:
        self.display.close()
        self._save(best=False)
        raise Interrupted(
            f"stopped at step {self.progress.step} of {self.phases[-1].last_step}, a checkpoint "
            f"is written; go on with --resume --run-dir {self.run_dir.path}",
            signal_number,
        )

    def _test(self) -> tuple[Evaluation, str, int]:
        """Evaluate the test split with the weights asked for: (evaluation, which, epoch).

        The one place where training reads the test split.
        """
        state, split, last = self.prepared.state, self.prepared.splits.test, self.config.epochs
        epoch = last if self.config.test_weights == "last" else self.progress.best_epoch
        which = "last" if epoch is None or self.config.test_weights == "last" else "best"
        epoch = epoch or last
        step = epoch * self.prepared.steps_per_epoch
        phase = next(p for p in self.phases if step <= p.last_step)
        evaluator = self._evaluator(phase, self.config.test_time_augmentation)
        if epoch == last:
            return evaluator(split), which, epoch
        now = state.arrays()
        state.restore(checkpoints.load(self.checkpoints.best())[0])
        try:
            return evaluator(split), which, epoch
        finally:
            state.restore(now)

    def _finish(self) -> dict[str, Any]:
        with self.clock.account("paused"):
            test, which, epoch = self._test()
            if not math.isfinite(test.loss):
                self.warn("the test loss is not finite")
            if self.writes:
                self._write_samples(test)
        summary = summarise(self.config, self.prepared, self.progress, self._seconds(), test)
        summary |= {"test_weights": which, "test_epoch": epoch}
        if self.progress.skipped_steps:
            self.display.line(
                f"{self.progress.skipped_steps} of {self.progress.step} steps were left out by "
                f"loss scaling; the scale is {summary['loss_scale']:g} at the end"
            )
        if self.writes:
            self.run_dir.write_summary(summary)
        return summary

    def _write_samples(self, test: Evaluation) -> None:
        split = self.prepared.splits.test
        shown = np.linspace(0, len(split) - 1, min(_SAMPLES, len(split))).astype(np.int64)
        self.run_dir.write_samples(
            images=split.take(shown).in_memory().images,
            labels=split.labels[shown],
            predictions=test.predictions[shown],
        )
