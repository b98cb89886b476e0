"""The references tell right from wrong, for functions of ours and of other libraries."""

import numpy as np
import pytest

from fastcifar.augment import operations as op
from fastcifar.augment.policies import Policy
from fastcifar.bench.augmentation import names, peers, rates
from fastcifar.bench.augmentation.references import COUNT, SIZE, agrees, judge_standard, sample

OPERATIONS = {
    name: policy.operations[0]
    for name, (section, policy) in names.subjects().items()
    if section == names.OPERATIONS
}
SAME = [
    (library, name)
    for name, operation in OPERATIONS.items()
    for library in names.LIBRARIES
    if (found := peers.peer(operation, library)) and not found.differs
]


def ours(operation):
    return rates.our_function(Policy("one", (operation,)), SIZE, COUNT)


@pytest.mark.parametrize("name", OPERATIONS)
def test_ours_agree(name):
    assert agrees(OPERATIONS[name], ours) == "ok"


@pytest.mark.parametrize(("library", "name"), SAME)
def test_layers_that_are_defined_the_same_agree(library, name):
    size = (SIZE, SIZE)
    assert agrees(OPERATIONS[name], lambda o: peers.make([o], library, size, size)) == "ok"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_reference_that_refuses_a_wrong_answer(name):
    def slightly_wrong(operation):
        function = ours(operation)

        def wrong(images, labels):
            made, mixed = function(images, labels)
            return made.numpy() * np.linspace(0.9, 1, SIZE)[:, None], mixed

        return wrong

    assert agrees(OPERATIONS[name], slightly_wrong).startswith("failed: ")


@pytest.mark.parametrize(
    "name",
    ["Flip", "PadCrop", "Cutout", "Rotate", "Brightness", "Hue", "Equalise", "GaussianNoise"],
)
def test_doing_nothing_is_wrong(name):
    nothing = agrees(OPERATIONS[name], lambda operation: lambda images, labels: (images, labels))
    assert nothing.startswith("failed: ")


def test_labels_that_do_not_follow_the_images_are_wrong():
    def unmixed(operation):
        return lambda images, labels: (ours(operation)(images, labels)[0], labels)

    for name in ("MixUp", "CutMix"):
        assert agrees(OPERATIONS[name], unmixed).startswith("failed: ")


def test_cutmix_labels_off_the_pasted_share_are_wrong():
    def towards_the_image(operation):
        def function(images, labels):
            made, mixed = ours(operation)(images, labels)
            return made, 0.9 * np.asarray(mixed) + 0.1 * labels

        return function

    assert "off the pasted share" in agrees(OPERATIONS["CutMix"], towards_the_image)


def standard(images, *, offset=(0, 0), mirrored=False, square=None):
    """`standard` in NumPy with everything given."""
    padded = np.pad(images[:, :, ::-1] if mirrored else images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    y, x = offset
    made = padded[:, y : y + SIZE, x : x + SIZE].astype(np.float32)
    if square is not None:
        top, left, side = square
        made[:, top : top + side, left : left + side] = op.MEAN_COLOUR
    return made


def test_standard_is_told_from_what_is_not():
    images = sample()
    half = COUNT // 2
    one = standard(images[:half], offset=(8, 1), mirrored=True, square=(3, 5, 8))
    other = standard(images[half:], offset=(2, 4))
    assert judge_standard(images, np.concatenate([one, other]), 4, 8) == "ok"
    assert "cropped alike" in judge_standard(images, standard(images, offset=(4, 4)), 4, 8)
    too_large = standard(images, offset=(2, 4), square=(3, 5, 9))
    assert "no window" in judge_standard(images, too_large, 4, 8)
    upside_down = standard(images)[:, ::-1]
    assert "no window" in judge_standard(images, upside_down, 4, 8)


def test_a_policy_has_layers_only_where_each_of_its_operations_has():
    assert peers.peer(op.GaussianNoise(), names.KERAS) is None
    operations = [op.Flip(), op.PadCrop(), op.Cutout()]
    said = peers.differences(operations, names.KERAS)
    assert said == "one offset for the whole batch; the square lies inside the image"
    assert peers.differences(operations[:1], names.KERAS) == ""
