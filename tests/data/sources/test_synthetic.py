"""The synthetic source: deterministic, balanced, told apart by shape alone."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from fastcifar.data.sources import synthetic
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.sources.synthetic import CLASS_NAMES, MAX_CLASSES, load_synthetic
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError


@pytest.fixture(scope="module")
def splits() -> Splits:
    return draw(4000, seed=0)


def draw(count: int, seed: int) -> Splits:
    return load_synthetic(count=count, options=ReadOptions(seed=seed))


def test_same_seed_same_bytes_another_seed_others(splits: Splits) -> None:
    again, other = (draw(4000, seed) for seed in (0, 1))
    for name in ("train", "test"):
        split, same, different = (getattr(s, name) for s in (splits, again, other))
        assert split.images.tobytes() == same.images.tobytes()
        assert split.labels.tobytes() == same.labels.tobytes()
        assert split.images.tobytes() != different.images.tobytes()


def test_no_image_is_in_train_and_test(splits: Splits) -> None:
    train = {image.tobytes() for image in splits.train.images}
    assert len(train) == len(splits.train)
    assert not train & {image.tobytes() for image in splits.test.images}
    # With as many images in each, one stream for both would give the same ones.
    small = load_synthetic(count=10)
    assert len(small.test) == 10
    assert small.train.images.tobytes() != small.test.images.tobytes()


@pytest.mark.parametrize(("count", "classes", "size"), [(5, 2, 8), (103, 10, 33), (90, 40, 64)])
def test_shape_of_the_work_is_free(count: int, classes: int, size: int) -> None:
    drawn = load_synthetic(count=count, classes=classes, size=size)
    assert drawn.train.images.shape == (count, size, size, 3)
    assert len(drawn.test) == max(count // 5, classes)
    assert drawn.class_names == CLASS_NAMES[:classes]
    for split in (drawn.train, drawn.test):
        counts = np.bincount(split.labels, minlength=classes)
        assert np.ptp(counts) <= 1


def test_labels_come_in_random_order(splits: Splits) -> None:
    assert len(set(splits.train.labels[:50].tolist())) == 10


def probe(splits: Splits, features: list[np.ndarray]) -> float:
    """Test accuracy of a linear classifier on given features of train and test."""
    train, test = (np.c_[part, np.ones(len(part))].astype(np.float64) for part in features)
    target = np.eye(len(splits.class_names))[splits.train.labels]
    weights = np.linalg.solve(train.T @ train + 1e-3 * np.eye(train.shape[1]), train.T @ target)
    return float(((test @ weights).argmax(axis=1) == splits.test.labels).mean())


def test_neither_colour_nor_pixels_tell_the_class(splits: Splits) -> None:
    images = [split.images / 255.0 for split in (splits.train, splits.test)]
    colour = [np.c_[part.mean(axis=(1, 2)), part.std(axis=(1, 2))] for part in images]
    assert probe(splits, colour) < 0.25
    assert probe(splits, [part[:, ::4, ::4].reshape(len(part), -1) for part in images]) < 0.25


def test_shapes_differ_in_area_as_drawn(splits: Splits) -> None:
    """The picture really shows its class: discs cover more of it than bars, at equal radius."""
    spread = splits.train.images.std(axis=(1, 2)).mean(axis=1)
    disc, bar = (spread[splits.train.labels == CLASS_NAMES.index(n)] for n in ("disc", "bar"))
    assert disc.mean() > 1.2 * bar.mean()


def test_images_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python does for a block of images is the same however many it holds."""
    draw_block, blocks = synthetic._draw_block, []

    def counted(labels: np.ndarray, *rest: Any) -> np.ndarray:
        calls = 0

        def note(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(note)
        try:
            return draw_block(labels, *rest)
        finally:
            sys.setprofile(None)
            blocks.append((len(labels), calls))

    monkeypatch.setattr(synthetic, "_draw_block", counted)
    load_synthetic(count=3000)
    assert [images for images, _ in blocks] == [1024, 1024, 952, 600]
    assert max(calls for _, calls in blocks) - min(calls for _, calls in blocks) < 10


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    load_synthetic(count=3000, options=ReadOptions(progress=lambda *report: seen.append(report)))
    assert seen[0] == ("drawing train", 1024, 3000)
    assert ("drawing train", 3000, 3000) in seen
    assert seen[-1] == ("drawing test", 600, 600)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "--synthetic-count .* 10 .* Received: 0"),
        ({"count": -3}, "--synthetic-count .* Received: -3"),
        ({"classes": 1}, f"--synthetic-classes .* 2 and {MAX_CLASSES}. Received: 1"),
        ({"classes": 41, "count": 100}, "--synthetic-classes .* Received: 41"),
        ({"size": 0}, "--synthetic-size .* Received: 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_synthetic(**options)


@pytest.mark.slow
def test_a_small_convnet_learns_it() -> None:
    import keras

    keras.utils.set_random_seed(0)
    drawn = load_synthetic()
    layers: list[keras.layers.Layer] = [keras.layers.Rescaling(1 / 127.5, offset=-1)]
    for filters in (24, 48, 96):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
        ]
    model = keras.Sequential([*layers, keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(10)])
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 79 * 8)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(drawn.train.images, drawn.train.labels, batch_size=128, epochs=8, verbose=0)
    _, accuracy = model.evaluate(drawn.test.images, drawn.test.labels, verbose=0)
    assert accuracy > 0.95, accuracy
