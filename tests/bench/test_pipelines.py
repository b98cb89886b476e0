"""Pipelines are compared only where each delivers every image once."""

import re
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fastcifar import recipes
from fastcifar.bench import commands, numbered, pipelines, rungs, textbook
from fastcifar.bench.feeds import grain_dataset, naive, on_disk, torch_loader
from fastcifar.bench.feeds.candidate import Candidate, augmented
from fastcifar.bench.pipelines import (
    PipelinesPlan,
    all_candidates,
    candidates,
    contender,
    measure_pipelines,
)
from fastcifar.errors import ConfigError
from tests.bench.subjects import Rows

COUNT, SIZE, BATCH = 1100, 16, 64
WHOLE = COUNT // BATCH * BATCH


@pytest.fixture(scope="module")
def split():
    return numbered.numbered_split(COUNT, SIZE)


def test_images_carry_their_numbers(split):
    np.testing.assert_array_equal(numbered.numbers_of(split.images), np.arange(COUNT))
    as_floats = split.images.astype(np.float32)
    np.testing.assert_array_equal(numbered.numbers_of(as_floats), np.arange(COUNT))


def batches(split, *epochs, size=BATCH):
    """Batches of the images at the positions of `epochs`, straddling their borders."""
    order = np.concatenate(epochs)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield split.images[chosen], split.labels[chosen]


def faults(split):
    rng = np.random.default_rng(0)
    one, other = rng.permutation(COUNT), rng.permutation(COUNT)
    twice = other.copy()
    twice[7] = twice[3]
    yield "ok", batches(split, one, other)
    yield "came twice in epoch 2", batches(split, one, twice)
    yield "epoch 2 has the order of the one before", batches(split, one, one)
    yield "epoch 1 has the order of the one before", batches(split, np.arange(COUNT), other)
    yield "ended after 1100 of 2200", batches(split, one)
    yield "the label of another", ((i, np.roll(k, 1)) for i, k in batches(split, one, other))


@pytest.mark.parametrize("case", range(6))
def test_the_check_tells_what_is_wrong(split, case):
    said, given = list(faults(split))[case]
    assert said in numbered.check_order(given, count=COUNT, per_epoch=COUNT)


def delivered(candidate):
    for images, labels, *_ in candidate.make():
        yield np.asarray(images), np.asarray(labels)


OWN = ["permutation", "shuffle_buffer", "cache_shuffle_repeat_batch", "shuffled_indices"]
NAMES = [*OWN, augmented("permutation"), augmented("cache_shuffle_repeat_batch"), naive.NAME]


@pytest.mark.parametrize("name", NAMES)
def test_every_candidate_delivers_each_image_once(split, name):
    candidate = {c.name: c for c in candidates(split, BATCH)}[name]
    whole = name.endswith(("permutation", "shuffle_buffer", naive.NAME))
    assert candidate.per_epoch == (WHOLE if whole else COUNT)
    checked = numbered.check_order(
        delivered(candidate), count=COUNT, per_epoch=candidate.per_epoch, epochs=3
    )
    assert checked == "ok"


@pytest.fixture(scope="module")
def files(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {c.name: c for c in on_disk.candidates(split, BATCH, folder)}


@pytest.mark.parametrize("name", [on_disk.TFDS, on_disk.DIRECTORY])
def test_ways_that_read_files_deliver_each_image_once(files, name):
    for candidate in (files[name], files[augmented(name)]):
        checked = numbered.check_order(delivered(candidate), count=COUNT, per_epoch=COUNT)
        assert checked == "ok"


def test_what_tunes_itself_keeps_little_ready(files):
    """A buffer that is filled while others are timed would make a pipeline look faster."""
    for candidate in files.values():
        budget = candidate.make().options().autotune.ram_budget
        assert budget == 4 * BATCH * SIZE * SIZE * 3 * 4


def test_augmented_images_are_augmented(split, files):
    found = [c for c in candidates(split, BATCH) if c.name.startswith("augmented/")]
    for candidate in (*found, *(files[n] for n in files if n.startswith("augmented/"))):
        images, _ = next(delivered(candidate))
        assert images.dtype == np.float32
        assert images.shape[1:] == split.image_shape
        originals = split.images[numbered.numbers_of(images)]
        mirrored = originals[:, :, ::-1]
        untouched = sum(
            np.array_equal(image, a) or np.array_equal(image, b)
            for image, a, b in zip(images, originals, mirrored, strict=True)
        )
        # One in 81 is shifted by nothing; Keras draws one shift for a batch.
        assert untouched < len(images) / 4 or "RandomCrop" in candidate.differs
        assert 0 <= images.min() < images.max() <= 255


@pytest.mark.parametrize(("feed", "package"), [(torch_loader, "torch"), (grain_dataset, "grain")])
def test_peers_deliver_each_image_once(split, feed, package):
    pytest.importorskip(package)
    for candidate in feed.candidates(split, BATCH):
        checked = numbered.check_order(
            delivered(candidate), count=COUNT, per_epoch=candidate.per_epoch
        )
        assert checked == "ok", candidate.name


def test_a_peer_that_is_not_installed_says_how_to(split, tmp_path, monkeypatch):
    def absent(split, global_batch_size):
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(torch_loader, "candidates", absent)
    found = {c.name: c for c in all_candidates(split, BATCH, tmp_path)}
    names = ["torch_dataloader", "augmented/torch_dataloader", "torch_batch_sampler"]
    for name in names:
        assert contender(found[name], COUNT).check() == "not run: install fastcifar[peers]"
    # What is augmented comes last, whatever the library.
    kinds = [name.startswith("augmented/") for name in found]
    assert kinds == sorted(kinds)


def few(monkeypatch, *more):
    """Only the plain rows, and `more`."""
    monkeypatch.setattr(
        pipelines,
        "all_candidates",
        lambda split, size, folder: [*candidates(split, size)[:4], *more],
    )


def test_rows_and_ratios(short_pieces, monkeypatch, split):
    few(monkeypatch)
    rows = Rows()
    measure_pipelines(PipelinesPlan(COUNT, SIZE, BATCH, seconds=0.1), split, rows)
    assert list(rows) == OWN
    for name, row in rows.items():
        assert row.check == "ok"
        assert row.images_per_s.n == 2
        assert list(row.ratios) == ([] if name == pipelines.TEXTBOOK else [pipelines.TEXTBOOK])
        assert ("ours_to_this" in row.figures) == (name != "permutation")
    assert rows["permutation"].figures["verdict"].startswith("The images are drawn noise")
    gain = rows["cache_shuffle_repeat_batch"].figures["ours_to_this"]["median"]
    assert gain == pytest.approx(rows["permutation"].ratios[pipelines.TEXTBOOK].median)


def test_the_naive_way_is_that_of_the_ladders_first_rung(split, monkeypatch):
    """One function assembles both, and what the row asks of it is what the rung is."""
    asked = []
    image_batches = textbook.image_batches

    def asking(split, data, policy, **sizes):
        asked.append((data, sizes["image_size"]))
        return image_batches(split, data, policy, **sizes)

    monkeypatch.setattr(textbook, "image_batches", asking)
    candidate = naive.candidate(split, BATCH)
    candidate.make()
    rung = rungs.naive(recipes.get("cifar10-32px")).config.data
    assert asked == [(rung, 224)]
    assert (rung.cache, rung.prefetch, rung.parallel_map) == ("none", 0, 1)
    assert candidate.ready == 0


@pytest.mark.slow
def test_the_naive_way_delivers_finished_images(split, short_pieces, monkeypatch):
    candidate = naive.candidate(split, BATCH)
    images, _ = next(delivered(candidate))
    assert images.shape == (BATCH, 224, 224, 3)
    assert images.dtype == np.float32
    few(monkeypatch, candidate)
    rows = Rows()
    measure_pipelines(PipelinesPlan(COUNT, SIZE, BATCH, seconds=0.1), split, rows)
    assert rows["naive/224px"].check == "ok"
    assert rows["naive/224px"].figures["ours_to_this"]["median"] > 1
    assert "permutation delivers uint8 at 16 px" in rows["naive/224px"].figures["differs"]


@pytest.mark.parametrize("name", NAMES)
def test_what_waits_for_its_turn_does_not_work(split, short_pieces, monkeypatch, name):
    """All rows share a process: one that works while another is timed would slow it down."""
    made = 0

    def count():
        nonlocal made
        made += 1

    def counted(*values):
        with tf.control_dependencies([tf.py_function(count, [], [])]):
            return tf.nest.map_structure(tf.identity, values)

    # Batches come into being before they are prefetched; the naive way prefetches none and is held
    # to the images that it decodes.
    prefetch, decode = tf.data.Dataset.prefetch, tf.io.decode_png
    monkeypatch.setattr(tf.data.Dataset, "prefetch", lambda d, n: prefetch(d.map(counted), n))
    if name == naive.NAME:
        monkeypatch.setattr(
            tf.io, "decode_png", lambda png, **rest: counted(decode(png, **rest))[0]
        )
    candidate = {c.name: c for c in candidates(split, BATCH)}[name]
    iterator = iter(candidate.make())
    taken = 3
    for _ in range(taken):
        next(iterator)
    before = None
    while made != before:  # until it has come to rest
        before = made
        time.sleep(0.2)
    # Where what is prefetched is augmented and prefetched again, both are counted.
    twice = name == augmented(pipelines.OURS)
    ahead = candidate.ready + 1
    batches = 2 * taken + 3 * ahead if twice else taken + ahead
    assert taken < made <= batches * (BATCH if name == naive.NAME else 1)


@pytest.fixture
def folder(tmp_path):
    """Eight images of each of two classes, all of one colour, larger than they are asked for."""
    for number, name in enumerate(("a", "b")):
        place = tmp_path / "train" / name
        place.mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (40, 40), (100 * number, 50, 7)).save(place / f"{i}.png")
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "test" / name / "0.png")
    return tmp_path


def test_real_images_are_numbered_at_their_centres(folder):
    plan = PipelinesPlan(images=16, image_size=24, global_batch_size=8, data_path=str(folder))
    found = pipelines.numbered_images(plan)
    np.testing.assert_array_equal(numbered.numbers_of(found.images), np.arange(16))
    np.testing.assert_array_equal(found.images[0, 0, 0], [0, 50, 7])
    np.testing.assert_array_equal(found.images[15, 0, 0], [100, 50, 7])
    assert found.image_shape == (24, 24, 3)


def test_fewer_images_than_asked_for_are_one_line(folder, tmp_path):
    out = tmp_path / "r.json"
    flags = ["--data-path", str(folder), "--images", "17", "--global-batch-size", "8"]
    with pytest.raises(ConfigError) as caught:
        commands.run(["pipelines", *flags, "--out", str(out)])
    said = "images must be at most the 16 training images of .* Received: 17; give --images 16"
    assert re.fullmatch(said, str(caught.value))
    assert not out.exists()


def test_a_pipeline_outside_of_tensorflow(short_pieces, monkeypatch, split):
    def shuffled():
        rng = np.random.default_rng(0)
        while True:
            yield from batches(split, rng.permutation(COUNT)[:WHOLE])

    few(monkeypatch, Candidate("numpy", shuffled, WHOLE, BATCH, in_graph=False, differs="NumPy"))
    rows = Rows()
    measure_pipelines(PipelinesPlan(COUNT, SIZE, BATCH, seconds=0.1), split, rows)
    assert rows["numpy"].check == "ok"
    assert rows["numpy"].images_per_s.n == 2
    assert rows["numpy"].figures["differs"] == "NumPy"


def test_a_pipeline_that_repeats_images_shows_no_number(short_pieces, monkeypatch, split):
    def with_replacement():
        images = tf.constant(split.images), tf.constant(split.labels)
        drawn = tf.data.Dataset.random(seed=1).map(lambda r: r % len(split))
        return drawn.batch(BATCH).map(lambda i: tuple(tf.gather(x, i) for x in images))

    few(monkeypatch, Candidate("bad", with_replacement, len(split), BATCH))
    rows = Rows()
    measure_pipelines(PipelinesPlan(COUNT, SIZE, BATCH, seconds=0.1), split, rows)
    assert "images came twice in epoch 1" in rows["bad"].check
    assert rows["bad"].images_per_s is None
    assert rows["permutation"].images_per_s is not None
