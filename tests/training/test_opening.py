"""What is said before anything is computed: complete, right, at most 80 columns wide."""

import pytest

from fastcifar import recipes, runtime
from fastcifar.training import opening
from fastcifar.training.preparation import describe, prepare
from fastcifar.training.progress import Display
from fastcifar.wording import counted
from tests.training.small_run import small

pytestmark = pytest.mark.usefixtures("two_stages")


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (0, "image", "0 images"),
        (1, "step", "1 step"),
        (2, "step", "2 steps"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (2, "batch", "2 batches"),
        (2, "epoch", "2 epochs"),
        (12345, "image", "12,345 images"),
    ],
)
def test_a_count_agrees_with_its_noun(count, noun, said):
    assert counted(count, noun) == said


def test_a_run_says_what_it_trains_on(monkeypatch):
    """128 images, 13 of them held out; 115 in batches of 16 are 7 steps and 3 over."""
    monkeypatch.setattr(runtime, "_unused_gpu", lambda tf: "there is a GPU")
    prepared = prepare(small(), Display(quiet=True))
    assert prepared.warnings == ("there is a GPU",)
    lines = describe(prepared)
    text = " ".join(" ".join(lines).split())
    for said in (
        "classes 10: disc, square, triangle, cross, ring, star, crescent, bar, pair, corner",
        "training 115 images",
        "validation 13 images, held out of 128 training images (10.2%)",
        "test 25 images, the source's own",
        "batch 16 images; 7 steps an epoch, 3 images left out of each",
        "images stored at 16x16 pixels",
        "3 epochs at 16x16 pixels, augmentation flip-crop, adamw at a learning rate of 0.003",
        "precision float32, XLA off",
        "device 1 replica on CPU: ",
    ):
        assert said in text
    assert max(map(len, lines)) <= 80


def test_more_than_ten_classes_are_counted():
    ((_, said), *_) = opening.of_set([f"class {i}" for i in range(1000)], {"train": 5000})
    assert said.startswith("1,000: class 0, class 1, ")
    assert said.endswith("class 9 and 990 more")


def test_one_of_each_is_in_the_singular():
    held_out = {"test": (1, 2), "validation": (2, 9)}
    rows = dict(opening.of_set(["a", "b"], {"train": 1, "validation": 1, "test": 1}, held_out))
    assert rows["training"] == "1 image"
    assert rows["test"] == "1 image, held out of 2 training images (50.0%)"
    # Of two that were held out a limit has left one.
    assert rows["validation"] == "1 image, held out of 9 training images (2 images, 22.2%)"
    assert dict([opening.of_batches(17, 16, 1)])["batch"] == (
        "16 images; 1 step an epoch, 1 image left out of each"
    )
    assert dict([opening.of_batches(32, 16, 2)])["batch"] == (
        "16 images over 2 replicas; 2 steps an epoch, no image left out"
    )


@pytest.mark.parametrize("name", recipes.names())
def test_phases_fit_a_terminal(name):
    lines = opening.lines(opening.of_phases(recipes.get(name), 32))
    assert max(map(len, lines)) <= 80
    assert not any(" 1 epochs" in line for line in lines)
