"""The network's layers against Keras Applications (outputs: test_pretrained), its pinned size."""

import keras
import numpy as np
import pytest

from fastcifar.errors import ConfigError
from fastcifar.models.resnet import build_resnet

# Published ResNet-50 (25,557,032 with 1,000 classes) with a head of 10: no convolution biases.
RESNET50_TRAINABLE = 23_528_522
RESNET50_STATISTICS = 53_120


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def small(**arguments):
    return build_resnet(**{"depth": 14, "width": 8, **arguments})


def test_parameter_count_is_pinned():
    model = build_resnet(num_classes=10)
    assert count(model.trainable_variables) == RESNET50_TRAINABLE
    assert count(model.non_trainable_variables) == RESNET50_STATISTICS


def test_layer_names_are_those_of_keras_applications():
    ours = {layer.name for layer in build_resnet(num_classes=10).layers}
    theirs = {layer.name for layer in keras.applications.ResNet50(weights=None).layers}
    assert theirs - ours == {"input_layer"} or len(theirs - ours) == 1
    assert ours - theirs == {"images"}


@pytest.mark.parametrize(
    ("stem", "size", "features"), [("imagenet", 64, 2), ("cifar", 32, 4), ("cifar", 64, 8)]
)
def test_feature_map_size(stem, size, features):
    model = small(num_classes=None, stem=stem, image_size=(size, size))
    assert model.output_shape == (None, features, features, 8 * 32)


def test_v1_5_moves_the_stride_and_keeps_the_shapes():
    v1, v15 = small(image_size=(64, 64)), small(image_size=(64, 64), stride_version="v1.5")
    assert v1.get_layer("conv3_block1_1_conv").strides == (2, 2)
    assert v1.get_layer("conv3_block1_2_conv").strides == (1, 1)
    assert v15.get_layer("conv3_block1_1_conv").strides == (1, 1)
    assert v15.get_layer("conv3_block1_2_conv").strides == (2, 2)
    assert [tuple(v.shape) for v in v1.variables] == [tuple(v.shape) for v in v15.variables]


def test_zero_gamma_makes_every_block_start_as_its_shortcut():
    model = small()
    names = [layer.name for layer in model.layers if layer.name.endswith("_3_bn")]
    assert len(names) == 4
    for name in names:
        assert not model.get_layer(name).gamma.numpy().any()
    assert small(zero_gamma=False).get_layer(names[0]).gamma.numpy().all()


def test_logits_and_weights_are_float32_under_mixed_precision():
    model = small(dtype="mixed_bfloat16", image_size=(32, 32))
    assert model.output.dtype == "float32"
    assert {v.dtype for v in model.variables} == {"float32"}
    assert model.get_layer("conv2_block1_out").output.dtype == "bfloat16"


def test_weights_follow_from_the_seed_and_the_name_alone():
    first, again, other = small(seed=1), small(seed=1, num_classes=3), small(seed=2)
    name = "conv3_block1_2_conv"
    kernels = [model.get_layer(name).kernel.numpy() for model in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0
    assert np.abs(kernels[0].std() / np.sqrt(2 / (9 * 16)) - 1) < 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"depth": 34}, "depth"), ({"stem": "tiny"}, "stem"), ({"stride_version": "v2"}, "stride")],
)
def test_refuses(arguments, words):
    with pytest.raises(ConfigError, match=words):
        small(**arguments)
