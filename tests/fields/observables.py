"""What a field of the configuration shows itself in: small parts of the real path of training.

Each observable takes a whole configuration and returns a value that can be compared. It goes the
way that training goes (`load_splits`, `prepare`, `plan`, `host_batches`, `build_step`, `train`), so
that a field that is lost on the way leaves it unchanged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

from fastcifar import runtime
from fastcifar.config import RunConfig
from fastcifar.data import storage
from fastcifar.errors import DivergenceError, UserError
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.models import resnet
from fastcifar.rundir import RunDir
from fastcifar.training import phase as phases
from fastcifar.training import preparation, trainer
from fastcifar.training.assembly import load_splits
from fastcifar.training.calls import Calls
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.feature_cache import open_cache
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.test_runtime import FakeConfig

QUIET = Display(quiet=True)


def digest(*arrays: Any) -> str:
    """Hash arrays, their shapes and their dtypes."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        array = np.asarray(array)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def small_network() -> Any:
    """The network of depth 14 with the first of its stages, and that of depth 26 with two."""
    return mock.patch.dict(resnet.BLOCKS, {14: (1,), 26: (1, 1)})


@functools.lru_cache(maxsize=2)
def prepared(config: RunConfig) -> preparation.Prepared:
    """What training prepares; shared by the observables that leave it as it is."""
    with small_network():
        return preparation.prepare(config, QUIET)


def images(config: RunConfig) -> Any:
    """The splits: where their images are, which they are; or how the source refuses."""
    try:
        splits = load_splits(config.data, seed=config.seed)
    except UserError as error:
        return str(error)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return [
        (name, type(part).__name__, digest(part.in_memory().images, part.labels))
        for name, part in parts.items()
        if part is not None
    ] + list(splits.class_names)


def _chain(dataset: Any) -> list[str]:
    """The stages of a tf.data pipeline with their sizes, from the end to the start."""
    found = []
    while dataset is not None:
        sizes = [getattr(dataset, name, None) for name in ("_buffer_size", "_num_parallel_calls")]
        shown = [int(size) for size in sizes if size is not None]
        found.append(f"{type(dataset).__name__} {shown}")
        dataset = getattr(dataset, "_input_dataset", None)
    return found


def batches(config: RunConfig) -> Any:
    """The host's part of the input of every phase: its stages, and what the first batch holds."""
    parts, kept, found = prepared(config), [], []

    def noting(what: str, real: Any) -> Any:
        def noted(*arguments: Any) -> Any:
            kept.append(what)
            return real(*arguments)

        return noted

    on_disk, encode = noting("a file", storage.on_disk), noting("encoded", storage.encode)
    with (
        mock.patch.object(storage, "on_disk", on_disk),
        mock.patch.object(storage, "encode", encode),
    ):
        for phase in phases.plan(parts.config, parts):
            dataset = phases.host_batches(parts.config, parts, phase, phase.first_step)
            batch = next(iter(dataset))
            found.append((_chain(dataset), [digest(part) for part in batch]))
    return found, kept


def network(config: RunConfig) -> Any:
    """The network and what it starts with."""
    model = prepared(config).model
    return digest(*(v.numpy() for v in model.variables)), repr(model.get_config())


def pixels(config: RunConfig) -> Any:
    """What the network sees of a training image and of a test image, by the phases' transforms."""
    parts = prepared(config)
    stored = tf.constant(parts.splits.train.take(np.arange(4)).in_memory().images)
    found = []
    for phase in phases.plan(parts.config, parts):
        made = phase.transforms
        batch = next(iter(phases.host_batches(parts.config, parts, phase, phase.first_step)))
        key = tf.stack([tf.constant(parts.config.seed, tf.int64), batch.epoch])
        given = (batch.images, batch.labels, key, batch.positions, batch.indices)
        traced = tf.function(made.before_program or made.on_device).get_concrete_function(*given)
        seen, soft = traced(*given)
        kinds = {operation.type for operation in traced.graph.get_operations()}
        kinds |= {
            node.op for f in traced.graph.as_graph_def().library.function for node in f.node_def
        }
        found.append(
            (
                digest(seen, soft, made.for_evaluation(stored)),
                bool(kinds & {"BatchMatMulV2", "Einsum", "MatMul"}),
            )
        )
    return found


def rates(config: RunConfig) -> Any:
    """The learning rate of every step, and the image size."""
    parts = prepared(config)
    planned = phases.plan(parts.config, parts)
    return [(phase.rates.tolist(), phase.train_size) for phase in planned]


@functools.lru_cache(maxsize=8)
def first_steps(config: RunConfig) -> Any:
    """Everything that training changes, after the first step of each phase."""
    with small_network():
        parts = preparation.prepare(config, QUIET)
        planned = phases.plan(parts.config, parts)
        steps: dict[Any, Any] = {}
        found = []
        for phase in planned:
            if phase.program not in steps:
                steps[phase.program] = phases.build_step(parts.config, parts, phase, planned)
            step = steps[phase.program]
            opened = phases.open_batches(parts.config, parts, phase, phase.first_step)
            step(opened, phase.first_step, 1)
            arrays = parts.state.arrays()
            found.append(digest(*(arrays[name] for name in sorted(arrays))))
    return found


def compiled(config: RunConfig) -> Any:
    """Which functions of a step are to be compiled by XLA, when it is traced."""
    asked = []

    def function(*arguments: Any, real: Any = tf.function, **options: Any) -> Any:
        asked.append(options.get("jit_compile"))
        return real(*arguments, **options)

    with small_network():
        parts = preparation.prepare(config, QUIET)
        planned = phases.plan(parts.config, parts)
        batches = phases.open_batches(parts.config, parts, planned[0], 0)
        with mock.patch.object(tf, "function", function):
            phases.build_step(parts.config, parts, planned[0]).trace(batches)
    return asked


def features(config: RunConfig) -> Any:
    """The features that the first phase trains on in place of images, and where they are kept."""
    with (
        small_network(),
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"FASTCIFAR_CACHE": folder}),
    ):
        parts = preparation.prepare(config, QUIET)
        cache = open_cache(parts.config, parts, QUIET)
        if cache is None:
            return None
        found = cache.of(phases.plan(parts.config, parts)[0])
        files = any(path.is_file() for path in Path(folder).rglob("*"))
        return found.train.values.shape, files


def layout(config: RunConfig) -> Any:
    """The devices, as TensorFlow is asked for them in this process; or the refusal."""
    try:
        chosen = runtime.setup(config.runtime)
    except UserError as error:
        return str(error)
    return type(chosen.strategy).__name__, chosen.replicas


def precision(config: RunConfig) -> Any:
    """The dtype policies of the network's layers, and whether the loss is scaled."""
    parts = prepared(config)
    policies = {str(layer.dtype_policy.name) for layer in parts.model.layers}
    return sorted(policies), parts.runtime.scales_loss, parts.state.loss_scale.dtype.name


class _Met(Exception):
    """The workers have been waited for."""


def waiting(config: RunConfig) -> Any:
    """How long the other workers are waited for."""
    asked: list[Any] = []

    def meet(cluster: Any, *arguments: Any, **options: Any) -> None:
        asked.append(arguments[0])
        raise _Met

    job = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    with (
        mock.patch.dict(os.environ, {"TF_CONFIG": json.dumps(job)}),
        mock.patch.object(runtime.rendezvous, "meet", meet),
        contextlib.suppress(_Met),
    ):
        runtime.setup(config.runtime)
    return asked


class _Machine(FakeConfig):
    """`tf.config` of a machine with GPUs that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[str, int] = {}

    def set_intra_op_parallelism_threads(self, count: int) -> None:
        self.threads["intra"] = count

    def set_inter_op_parallelism_threads(self, count: int) -> None:
        self.threads["inter"] = count


def machine(config: RunConfig) -> Any:
    """What a machine with two GPUs is asked for."""
    asked = _Machine()
    mirrored = mock.Mock(
        side_effect=lambda devices, **_: mock.Mock(num_replicas_in_sync=len(devices))
    )
    with (
        mock.patch.object(tf, "config", asked),
        mock.patch.object(tf.distribute, "MirroredStrategy", mirrored),
        mock.patch.object(runtime.environment, "gpu_memory_bytes", return_value=80 * 2**30),
        mock.patch.dict(os.environ, {"XLA_FLAGS": ""}),
    ):
        runtime.setup(config.runtime)
        kept = ("visible", "grown", "parts", "tf32", "threads", "deterministic")
        return [getattr(asked, name) for name in kept], os.environ["XLA_FLAGS"]


def variables(config: RunConfig) -> Any:
    """What TensorFlow finds in its environment when it is imported."""
    without = {name: module for name, module in sys.modules.items() if name != "tensorflow"}
    with (
        mock.patch.dict(os.environ, {"TF_XLA_FLAGS": ""}),
        mock.patch.dict(sys.modules, without, clear=True),
    ):
        runtime.prepare_environment(config.runtime)
        return os.environ["TF_XLA_FLAGS"]


def run(config: RunConfig, part: str) -> Any:
    """A whole run: `part` of what `_run` tells of it."""
    return _run(config)[part]


@functools.lru_cache(maxsize=4)
def _run(config: RunConfig) -> dict[str, Any]:
    calls, saved, views = [], [], []

    class Counted(Calls):
        def run(self, *arguments: Any) -> Any:
            steps, metrics = super().run(*arguments)
            calls.append(steps)
            return steps, metrics

    class Saving(Checkpoints):
        def save(self, arrays: Any, progress: Any, **options: Any) -> Any:
            saved.append(progress.step)
            return super().save(arrays, progress, **options)

    class Looking(Evaluator):
        def __init__(self, **options: Any) -> None:
            views.append(options["views"])
            super().__init__(**options)

    with (
        tempfile.TemporaryDirectory() as folder,
        small_network(),
        mock.patch.object(trainer, "Calls", Counted),
        mock.patch.object(trainer, "Checkpoints", Saving),
        mock.patch.object(trainer, "Evaluator", Looking),
    ):
        train(config, folder + "/run")
        written = RunDir(folder + "/run")
        metrics = written.read_metrics()
        return {
            "calls": calls,
            "saved": saved,
            "views": views,
            "traces": [p.suffix for p in written.tensorboard_path.rglob("*.pb")],
            "names": [epoch["phase"] for epoch in metrics],
            "recipe": (written.read_summary() or {})["recipe"],
            "evaluated": (written.read_summary() or {})["test_weights"],
        }


@functools.lru_cache(maxsize=8)
def diverging(config: RunConfig) -> Any:
    """How a run ends whose loss stops being finite at its first step, and what it warns of."""
    lines: list[str] = []
    quiet = Display(quiet=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        small_network(),
        mock.patch.object(quiet, "line", lines.append),
    ):
        with contextlib.suppress(DivergenceError):
            train(config, folder + "/run", display=quiet)
        return [line.replace(folder, "") for line in lines if line.startswith("warning")]


def changed(config: RunConfig, section: str, values: dict[str, Any]) -> RunConfig:
    """Return the configuration with fields of a section replaced, or of each of its phases.

    Args:
        config: to change.
        section: `data`, `model`, …, `phases`; empty for the configuration's own fields.
        values: by field.
    """
    if not section:
        return dataclasses.replace(config, **values)
    if section == "phases":
        parts = tuple(dataclasses.replace(phase, **values) for phase in config.phases)
        return dataclasses.replace(config, phases=parts)
    inner = dataclasses.replace(getattr(config, section), **values)
    return dataclasses.replace(config, **{section: inner})
