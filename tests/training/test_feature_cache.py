"""The feature cache: the same training as through the frozen backbone, in every layout."""

import dataclasses
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment.build import build
from fastcifar.augment.preprocess import normalise
from fastcifar.data import ordering
from fastcifar.errors import ConfigError
from fastcifar.models import resnet
from fastcifar.models.heads import split_head
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints, feature_cache, phase, trainer
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.feature_cache import FeatureCache
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.preparation import prepare
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.feature_cache_gain import measure
from tests.training.small_run import STEPS_PER_EPOCH, small
from tests.training.test_multi_worker import start
from tests.training.test_trainer import StopAt

pytestmark = pytest.mark.usefixtures("two_stages")

IMAGES = 115


def of_head(*, cache="memory", optimizer=None, phases=1, data=None, model=None, **changes):
    """A run of the head alone, in phases of two epochs."""
    base = small(
        data={"feature_cache": cache, **(data or {})},
        model={"dropout": 0.3, **(model or {})},
        phase={"epochs": 2, "augment": "none", "trainable": "head", **changes.pop("phase", {})},
        **changes,
    )
    changed = dataclasses.replace(base.optimizer, **(optimizer or {}))
    return dataclasses.replace(base, optimizer=changed, phases=base.phases * phases)


class Lines(Display):
    """Keeps the lines that are shown."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def line(self, text):
        self.lines.append(text)

    def about_features(self):
        return [line for line in self.lines if line.startswith("features of")]


def compare(one, other, tolerance):
    """Hold the runs in two folders to the same losses and the same state."""
    figures = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    for mine, theirs in zip(RunDir(one).read_metrics(), RunDir(other).read_metrics(), strict=True):
        expected = {name: theirs[name] for name in figures}
        assert {name: mine[name] for name in figures} == pytest.approx(expected, abs=tolerance)
    mine, theirs = (newest(folder)[0] for folder in (one, other))
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(
            mine[name], value, rtol=10 * tolerance, atol=tolerance, err_msg=name
        )


def newest(folder):
    return checkpoints.load(Checkpoints(RunDir(folder).checkpoints_path).newest())


VARIANTS = {
    "one replica": {},
    "two replicas": {"runtime": {"logical_devices": 2}},
    "two replicas, averages, parts, mlp": {
        "runtime": {"logical_devices": 2},
        "optimizer": {"ema": 0.9, "accumulate": 2},
        # Four images are normalised at a time: fewer features would vary too little among them.
        "model": {"head": "mlp", "width": 16},
    },
    "images on the device": {"data": {"cache": "device"}},
}
SLOW = tuple(VARIANTS)[1:]


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=pytest.mark.slow if v in SLOW else ()) for v in VARIANTS]
)
def test_losses_are_those_of_the_backbone_in_each_step(tmp_path, variant):
    folders = {cache: str(tmp_path / cache) for cache in ("off", "memory")}
    summaries = {
        cache: train(of_head(cache=cache, **VARIANTS[variant]), folder)
        for cache, folder in folders.items()
    }
    compare(folders["memory"], folders["off"], 1e-4)
    for name in ("test_loss", "test_accuracy", "best_epoch", "steps", "parameters"):
        assert summaries["memory"][name] == pytest.approx(summaries["off"][name], abs=1e-4)
    assert summaries["memory"]["features_s"] > 0 == summaries["off"]["features_s"]


@pytest.mark.slow
def test_averages_of_a_backbone_that_trained_before_are_what_validates(tmp_path):
    """A phase's averages start from the weights, so the backbone's are what the head trains on."""
    for cache in ("off", "memory"):
        base = of_head(cache=cache, optimizer={"ema": 0.9}, phases=2, phase={"epochs": 1})
        first = dataclasses.replace(base.phases[0], trainable="all", learning_rate=0.01)
        config = dataclasses.replace(base, phases=(first, base.phases[1]))
        train(config, str(tmp_path / cache))
    compare(str(tmp_path / "memory"), str(tmp_path / "off"), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_losses_in_every_precision_under_xla(tmp_path, precision, replicas):
    runtime = {"logical_devices": replicas, "precision": precision, "xla": "on"}
    folders = {cache: str(tmp_path / cache) for cache in ("off", "memory")}
    for cache, folder in folders.items():
        train(of_head(cache=cache, runtime=runtime), folder)
    compare(folders["memory"], folders["off"], 1e-4 if precision == "float32" else 0.02)


@pytest.mark.slow
def test_two_workers_train_on_features_too(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))
    for cache in ("memory", "disk"):
        out, errors = start(tmp_path / cache, of_head(cache=cache)).communicate(timeout=110)
        assert out.count("features of the training images: 115 images in 1 view") == 2, errors
    with mock.patch.dict(resnet.BLOCKS, {14: (1, 1, 1, 1)}):  # as workers have it
        train(of_head(runtime={"logical_devices": 2}), str(tmp_path / "mirrored"))
    for cache in ("memory", "disk"):
        compare(str(tmp_path / cache), str(tmp_path / "mirrored"), 1e-4)


@pytest.mark.slow
def test_epochs_on_features_are_much_faster():
    """What `python -m tests.training.feature_cache_gain` measures, on little work: loosely."""
    base = of_head(
        phase={"epochs": 20, "image_size": 32},
        data={"synthetic_count": 2048, "synthetic_size": 32},
        model={"depth": 26, "width": 32},
    )
    gain = measure(dataclasses.replace(base, global_batch_size=64))
    assert gain.ratio > 3, gain
    assert gain.loss_deviation < 1e-4


def prepared_cache(config):
    prepared = prepare(config, Display(quiet=True))
    return prepared, FeatureCache(prepared.config, prepared, Display(quiet=True))


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_view_is_keyed_by_seed_view_and_place(replicas):
    """Also of a policy that works on groups, whatever the batches: these change places."""
    config = of_head(
        runtime={"logical_devices": replicas},
        phase={"augment": "trivial", "epochs": 3},
        data={"feature_views": 8},
    )
    prepared, cache = prepared_cache(config)
    features = cache.of(phase.plan(prepared.config, prepared)[0]).train
    assert features.values.shape == (3, IMAGES, 4 * 8)  # no more views than epochs
    augment = build("trivial", image_size=(16, 16), num_classes=10)
    backbone, _ = split_head(prepared.model)
    images = prepared.splits.train.images
    for view in range(3):
        key, places = tf.constant([config.seed, view], tf.int64), tf.range(120, dtype=tf.int64)
        shuffled = ordering.within_groups(
            places, group=8, seed=config.seed, epoch=view, examples=IMAGES
        ).numpy()
        padded = images[np.minimum(shuffled, IMAGES - 1)]  # to whole groups
        seen, _ = augment(padded, np.zeros(120, np.int64), key, places)
        expected = backbone(normalise(seen, "cifar"), training=False).numpy()
        received = features.values[view][shuffled[shuffled < IMAGES]]
        np.testing.assert_allclose(received, expected[shuffled < IMAGES], rtol=1e-4, atol=1e-5)
    assert np.abs(features.values[0] - features.values[1]).max() > 0.01


@pytest.mark.slow
def test_views_augmented_on_the_host_are_the_same():
    found = []
    for place in ("device", "host"):
        on = {"augment_on": place, "resize_on": place, "feature_views": 2}
        prepared, cache = prepared_cache(of_head(phase={"augment": "flip-crop"}, data=on))
        found.append(cache.of(phase.plan(prepared.config, prepared)[0]).train.values)
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_images_on_disk_have_the_same_features(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))
    in_memory = of_head(phase={"augment": "flip"})
    on_disk = of_head(cache="disk", phase={"augment": "flip"}, data={"memory_budget": "1KB"})
    one, other = (
        train(config, str(tmp_path / name))
        for name, config in (("one", in_memory), ("other", on_disk))
    )
    assert list((tmp_path / "cache/prepared").glob("*/prepared.json"))
    assert one["weights_sha256"] == other["weights_sha256"]


def test_views_take_turns(tmp_path):
    """Three epochs on two views are not three epochs on one."""
    losses = {}
    for views in (1, 2):
        folder = str(tmp_path / str(views))
        config = of_head(phase={"augment": "flip-crop", "epochs": 3}, data={"feature_views": views})
        train(config, folder)
        losses[views] = [entry["loss"] for entry in RunDir(folder).read_metrics()]
    assert losses[1][0] == losses[2][0]
    assert losses[1][1] != losses[2][1]


@pytest.mark.parametrize(
    ("cache", "step"),
    [("memory", 9), pytest.param("disk", 9, marks=pytest.mark.slow)],
)
def test_stopped_and_resumed_is_the_same(tmp_path, monkeypatch, cache, step):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))
    config = of_head(
        cache=cache,
        runtime={"steps_per_call": "1"},
        phase={"augment": "flip-crop"},
        optimizer={"ema": 0.9},
    )
    whole = train(config, str(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        train(config, str(tmp_path / "run"), display=StopAt(step))
    resumed = train(config, str(tmp_path / "run"), resume=True)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["test_loss"] == whole["test_loss"]


def test_phases_of_the_head_share_features_and_the_step(tmp_path, monkeypatch):
    """head, head at another rate, all: two programs, one pass over each split."""
    built = []

    def recorded(*arguments):
        built.append(phase.build_step(*arguments))
        return built[-1]

    monkeypatch.setattr(trainer, "build_step", recorded)
    base = of_head(phases=3, phase={"epochs": 1})
    changes = ({}, {"learning_rate": 1e-4}, {"trainable": "all", "augment": "flip"})
    phases = tuple(
        dataclasses.replace(each, **change)
        for each, change in zip(base.phases, changes, strict=True)
    )
    lines = Lines()
    summary = train(dataclasses.replace(base, phases=phases), str(tmp_path / "run"), display=lines)
    assert [step.traces for step in built] == [1, 1]
    first, second = lines.about_features()
    assert re.match(
        r"features of the training images: 115 images in 1 view, [\d,]+ images/s", first
    )
    assert re.match(r"features of the validation images: 13 images in 1 view, ", second)
    assert summary["steps"] == 3 * STEPS_PER_EPOCH


def test_a_signal_stops_the_pass(tmp_path, monkeypatch):
    """Between two batches of images, with a checkpoint to go on from."""
    monkeypatch.setattr("fastcifar.training.feature_pass._IMAGES", 16)

    class StopInPass(StopAt):
        def count(self, what, done, total):
            if what.startswith("features"):
                self.step(16)

    config = of_head(phase={"epochs": 1})
    with pytest.raises(Interrupted, match="step 0 of 7"):
        train(config, str(tmp_path / "run"), display=StopInPass(40))
    resumed = train(config, str(tmp_path / "run"), resume=True)
    assert resumed["steps"] == STEPS_PER_EPOCH


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": {"augment": "mixup"}}, "augment mixup, which mixes images.*feature-cache off"),
        ({"phase": {"augment": "keras-cv"}}, "augment keras-cv, which does not follow from"),
        ({"phase": {"start_image_size": 8}}, "one image-size in a phase.*Received: 8:16"),
        (
            {"data": {"order": "shuffle_buffer"}},
            r"order permutation.* Received: order shuffle_buffer",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        feature_cache.check(of_head(**changes))
    assert "\n" not in str(caught.value)
    whole = of_head(**changes)
    feature_cache.check(
        dataclasses.replace(whole, phases=(dataclasses.replace(whole.phases[0], trainable="all"),))
    )


def test_too_many_features_for_the_memory_are_refused(tmp_path):
    """Images take 118 kB of the budget, one view of the features 66 kB."""
    wide = {"width": 16}
    config = of_head(
        model=wide,
        phase={"augment": "flip"},
        data={"memory_budget": "200KB", "feature_views": 2},
    )
    words = r"feature-cache memory needs 0.00 GB .* disk, fewer --feature-views than 2 or a higher"
    with pytest.raises(ConfigError, match=words):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    prepared = prepare(of_head(model=wide, data={"memory_budget": "200KB"}), Display(quiet=True))
    feature_cache.check_memory(prepared)
    on_disk = dataclasses.replace(
        config, data=dataclasses.replace(config.data, feature_cache="disk")
    )
    feature_cache.check_memory(dataclasses.replace(prepared, config=on_disk))


def test_a_cache_without_use_is_none_and_says_so():
    lines = Lines()
    prepared = prepare(of_head(phase={"trainable": "all"}), lines)
    assert feature_cache.open_cache(prepared.config, prepared, lines) is None
    said = (
        "--feature-cache memory has no effect: no phase trains the head alone; --trainable head "
        "does"
    )
    assert said in prepared.notes
    assert f"note: {said}" in lines.lines
