"""Every field of the configuration reaches what it configures, on the path that training takes.

One row for each field: where it shows itself (`tests/fields/observables.py`), on which base, and
other legal values. What is observed must differ between all of the values.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    RunConfig,
    RuntimeConfig,
)
from tests.fields import observables as see

BASE = RunConfig(
    recipe="quickstart",
    global_batch_size=8,
    data=DataConfig(
        source="synthetic",
        synthetic_count=40,
        synthetic_size=8,
        synthetic_classes=3,
    ),
    model=ModelConfig(depth=14, width=4, stem="cifar", stride_version="v1", normalise="cifar"),
    optimizer=OptimizerConfig(),
    runtime=RuntimeConfig(precision="float32", xla="off"),
    phases=(PhaseConfig(epochs=1, augment="none", image_size=8, schedule="constant"),),
)


@dataclass(frozen=True)
class Row:
    """How a field shows itself.

    Attributes:
        shows: configuration -> what is observed.
        values: other legal ones than that of the base; callables are given the test's folder.
        base: changes of `BASE`, by `section.field`.
        slow: it takes too long for the fast tests.
    """

    shows: Callable[[RunConfig], Any]
    values: tuple[Any, ...]
    base: dict[str, Any] = field(default_factory=dict)
    slow: bool = False


def of_run(part: str) -> Callable[[RunConfig], Any]:
    return functools.partial(see.run, part=part)


def folder(name: str = "images", *, wide: bool = False, damaged: bool = False):
    """Make a folder of eight images of each of two classes, when a test asks for it."""

    def make(tmp: Path) -> str:
        from PIL import Image

        root = tmp / name
        rng = np.random.default_rng(list(name.encode()))
        for label in ("a", "b"):
            (root / label).mkdir(parents=True, exist_ok=True)
            for number in range(12):
                pixels = rng.integers(0, 256, (8, 12 if wide else 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / label / f"{number}.png")
        if damaged:
            (root / "a" / "0.png").write_bytes(b"no image")
        return str(root)

    return make


def weights_file(tmp: Path) -> str:
    """Other weights for the base's network, as a file."""
    path = tmp / "other.weights.h5"
    other = dataclasses.replace(BASE, seed=5)
    see.prepared(other).model.save_weights(path)
    return str(path)


FOLDER = {"data.source": "image_folder", "data.data_path": folder()}
HEAD = {"phases.trainable": "head"}
FEATURES = {**HEAD, "phases.epochs": 3, "data.feature_cache": "memory"}
DEEP = {"model.depth": 26}
RUN = {"runtime.steps_per_call": "1", "data.validation_fraction": 0.0, "phases.epochs": 3}
MIRRORED = {"runtime.logical_devices": 2}
DIVERGING = {"phases.learning_rate": 1e30, "on_divergence": "rollback", "max_rollbacks": 1}

ROWS = {
    # What is trained on.
    "data.source": Row(see.images, ("synthetic",), FOLDER),
    "data.dataset": Row(see.images, ("cifar100", "mnist"), {"data.source": "keras"}),
    "data.data_path": Row(see.images, (folder("others"),), FOLDER),
    "data.storage_size": Row(see.images, (6, 7), FOLDER),
    "data.non_square": Row(
        see.images, ("pad",), {**FOLDER, "data.data_path": folder("wide", wide=True)}
    ),
    "data.memory_budget": Row(see.images, ("2KB",), FOLDER),
    "data.skip_unreadable": Row(
        see.images, (True,), {**FOLDER, "data.data_path": folder("damaged", damaged=True)}
    ),
    "data.synthetic_count": Row(see.images, (41,)),
    "data.synthetic_classes": Row(see.images, (4,)),
    "data.synthetic_size": Row(see.images, (9,)),
    "data.limit_train": Row(see.images, (20, 21)),
    "data.limit_test": Row(see.images, (4, 5)),
    "data.validation_fraction": Row(see.images, (0.0, 0.2)),
    # How it comes to the device.
    "data.cache": Row(see.batches, ("device", "disk", "none")),
    "data.order": Row(see.batches, ("shuffle_buffer",)),
    "data.transfer": Row(see.batches, ("float32",)),
    "data.prefetch": Row(see.batches, (0, 3)),
    "data.parallel_map": Row(see.batches, (1, 3)),
    "data.feature_cache": Row(see.features, ("memory", "disk"), HEAD),
    "data.feature_views": Row(see.features, (1, 2), {**FEATURES, "phases.augment": "flip-crop"}),
    "data.augment_on": Row(
        see.batches, ("host",), {"data.resize_on": "host", "phases.augment": "flip-crop"}
    ),
    "data.augment_form": Row(
        see.pixels, ("gather",), {"data.augment_form": "matmul", "phases.augment": "flip-crop"}
    ),
    "data.resize_on": Row(see.batches, ("host",), {"phases.image_size": 12}),
    # The network.
    "model.depth": Row(see.network, (26,)),
    "model.width": Row(see.network, (5,)),
    "model.weights": Row(see.network, (weights_file,)),
    "model.stem": Row(see.network, ("imagenet",)),
    "model.stride_version": Row(see.network, ("v1.5",), DEEP),
    "model.head": Row(see.network, ("mlp",)),
    "model.pooling": Row(see.network, ("flatten",)),
    "model.dropout": Row(see.network, (0.3, 0.5)),
    "model.zero_gamma": Row(see.network, (False,)),
    "model.batch_norm_momentum": Row(see.first_steps, (0.5,)),
    "model.batch_norm_epsilon": Row(see.first_steps, (0.1,)),
    "model.sync_batch_norm": Row(see.network, (True,), MIRRORED),
    "model.normalise": Row(see.pixels, ("unit", "imagenet", "caffe")),
    "model.resize_method": Row(see.pixels, ("nearest",), {"phases.image_size": 12}),
    # The update.
    "optimizer.optimizer": Row(see.first_steps, ("adam", "adamw", "rmsprop")),
    "optimizer.momentum": Row(see.first_steps, (0.5,)),
    "optimizer.weight_decay": Row(see.first_steps, (0.0,)),
    "optimizer.label_smoothing": Row(see.first_steps, (0.2,)),
    "optimizer.clip_norm": Row(see.first_steps, (0.01,)),
    "optimizer.accumulate": Row(see.first_steps, (2,)),
    "optimizer.ema": Row(see.first_steps, (0.02, 0.1)),
    # The machine.
    "runtime.precision": Row(see.precision, ("mixed_bfloat16", "mixed_float16")),
    "runtime.xla": Row(see.compiled, ("on",)),
    "runtime.strategy": Row(see.layout, ("mirrored", "multi_worker")),
    "runtime.worker_timeout": Row(see.waiting, (5.0,), {"runtime.strategy": "multi_worker"}),
    "runtime.logical_devices": Row(see.layout, (2,)),
    "runtime.devices": Row(see.machine, (1,)),
    "runtime.gpu_memory_limit": Row(
        see.machine, ("8GiB",), {"runtime.devices": 1, "runtime.logical_devices": 2}
    ),
    "runtime.reduce_dtype": Row(see.first_steps, ("bfloat16",), MIRRORED, slow=True),
    "runtime.reduction": Row(see.machine, ("overlapped",)),
    "runtime.tf32": Row(see.machine, (False,)),
    "runtime.intra_op_threads": Row(see.machine, (1, 2)),
    "runtime.inter_op_threads": Row(see.machine, (1, 2)),
    "runtime.compile_cache": Row(see.variables, (lambda tmp: str(tmp / "xla"),)),
    "runtime.steps_per_call": Row(of_run("calls"), ("2",), RUN),
    "runtime.profile": Row(of_run("traces"), (1,), RUN),
    "runtime.deterministic": Row(see.machine, (True,)),
    # The phases.
    "phases.epochs": Row(see.rates, (2,)),
    "phases.learning_rate": Row(see.first_steps, (0.01,)),
    "phases.schedule": Row(see.rates, ("cosine", "one_cycle"), {"phases.epochs": 2}),
    "phases.warmup_epochs": Row(see.rates, (0.5, 1.0)),
    "phases.augment": Row(see.pixels, ("flip-crop", "mixup")),
    "phases.image_size": Row(see.pixels, (12,)),
    "phases.start_image_size": Row(
        see.rates, (8, 12), {"phases.image_size": 16, "phases.epochs": 2}
    ),
    "phases.trainable": Row(see.first_steps, ("head", "from:conv3"), DEEP),
    "phases.freeze_batch_norm": Row(see.first_steps, (True,)),
    "phases.rate_decay": Row(see.first_steps, (0.5,)),
    "phases.name": Row(of_run("names"), ("other",), RUN),
    # The run.
    "recipe": Row(of_run("recipe"), ("other",), RUN),
    "global_batch_size": Row(see.batches, (4,)),
    "seed": Row(lambda c: (see.images(c), see.network(c), see.batches(c)), (1,)),
    "checkpoint_every": Row(of_run("saved"), (2,), RUN),
    "test_weights": Row(
        of_run("evaluated"),
        ("last",),
        {**RUN, "data.validation_fraction": 0.2, "test_weights": "best"},
    ),
    "on_divergence": Row(see.diverging, ("stop",), DIVERGING),
    "rollback_factor": Row(see.diverging, (0.25,), DIVERGING),
    "max_rollbacks": Row(see.diverging, (2,), DIVERGING),
    "test_time_augmentation": Row(of_run("views"), ("flip", "flip-shift"), RUN, slow=True),
}


def fields_of(cls: type = RunConfig, prefix: str = "") -> list[str]:
    """The fields of a configuration, and of those inside it."""
    found = []
    for name, hint in typing.get_type_hints(cls).items():
        inner = next((arg for arg in typing.get_args(hint) if dataclasses.is_dataclass(arg)), hint)
        if dataclasses.is_dataclass(inner):
            found += fields_of(typing.cast(type, inner), f"{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_field_has_a_row():
    missing, gone = set(fields_of()) - set(ROWS), set(ROWS) - set(fields_of())
    assert not missing, (
        f"{', '.join(sorted(missing))}: add a row to ROWS in {Path(__file__).name}: what in the "
        "real path of training shows the field (a function of tests/fields/observables.py), other "
        "legal values, and changes of BASE that let it have an effect. Where it can have none, it "
        "needs a rule in fastcifar/no_effect_rules.py too"
    )
    assert not gone, f"{', '.join(sorted(gone))}: no such field; remove the row"


@pytest.fixture
def keras_sets(monkeypatch, tmp_path):
    """Stand-ins for the sets of `keras.datasets`, in Keras' own cache."""
    import keras

    for number, (name, file, classes) in enumerate(
        [
            ("cifar10", "cifar-10-batches-py-target_archive", 10),
            ("cifar100", "cifar-100-python-target_archive", 100),
            ("mnist", "mnist.npz", 10),
        ]
    ):
        rng = np.random.default_rng(number)
        labels = np.arange(3 * classes) % classes
        part = rng.integers(0, 256, (3 * classes, 8, 8, 3), np.uint8), labels
        module = types.SimpleNamespace(load_data=lambda part=part: (part, part))
        monkeypatch.setattr(keras.datasets, name, module)
        (tmp_path / "keras/datasets").mkdir(parents=True, exist_ok=True)
        (tmp_path / "keras/datasets" / file).touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if row.slow else []) for n, row in ROWS.items()],
)
def test_a_field_shows_itself(name, tmp_path, monkeypatch, keras_sets):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))
    for variable in ("TF_CONFIG", "SLURM_JOB_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(variable, raising=False)

    def configured(base: RunConfig, changes: dict[str, Any]) -> RunConfig:
        sections: dict[str, dict[str, Any]] = {}
        for path, value in changes.items():
            section, _, key = path.rpartition(".")
            made = value(tmp_path) if callable(value) else value
            sections.setdefault(section, {})[key] = made
        for section, values in sections.items():
            base = see.changed(base, section, values)
        return base

    row = ROWS[name]
    base = configured(BASE, row.base)
    configs = [base, *(configured(base, {name: value}) for value in row.values)]
    seen = [row.shows(config) for config in configs]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert one != other, f"{name} changes nothing"


@pytest.mark.parametrize(
    ("name", "shows", "value"),
    [
        ("learning_rate", see.first_steps, 0.01),
        ("rate_decay", see.first_steps, 0.5),
        ("freeze_batch_norm", see.first_steps, True),
        ("augment", see.pixels, "flip-crop"),
        ("image_size", see.pixels, 12),
        ("schedule", see.rates, "cosine"),
    ],
)
def test_a_later_phase_has_its_own(name, shows, value):
    first, second = BASE.phases * 2
    one = dataclasses.replace(BASE, phases=(first, second))
    other = dataclasses.replace(one, phases=(first, dataclasses.replace(second, **{name: value})))
    before, after = shows(one), shows(other)
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "shows", [see.images, see.batches, see.network, see.pixels, see.first_steps, see.features]
)
def test_what_is_observed_is_the_same_for_equal_configurations(shows):
    """Else a row would pass by chance."""
    config = see.changed(
        see.changed(BASE, "data", {"feature_cache": "memory"}), "phases", {"trainable": "head"}
    )
    once = shows(config)
    see.prepared.cache_clear()
    assert once == getattr(shows, "__wrapped__", shows)(config)
