"""What replicas add up in a step, packed and in buckets: the same numbers, whichever way."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.config import ConfigError, OptimizerConfig, RuntimeConfig
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.models.resnet import build_resnet
from fastcifar.runtime import Runtime
from fastcifar.training.assembly import check_reduction
from fastcifar.training.backward import buckets
from fastcifar.training.exchange import Exchange, Results
from tests.training.tiny import CLASSES, SIZE, Run, mirrored


def test_a_network_has_a_bucket_for_each_stage_the_last_first():
    model = build_resnet(depth=50, width=4, num_classes=10, dtype="float32")
    paths = [v.path for v in model.trainable_variables]
    found = buckets(paths)
    assert list(found) == ["conv5", "conv4", "conv3", "conv2"]
    assert sorted(place for bucket in found.values() for place in bucket) == list(range(len(paths)))
    layers = {stage: {paths[i].split("_")[0] for i in bucket} for stage, bucket in found.items()}
    assert layers["conv5"] == {"conv5", "predictions/kernel", "predictions/bias"}
    assert layers["conv2"] == {"conv1", "conv2"}


SHAPES = [(3, 4), (5,), (2, 2, 2), (), (7,)]


@pytest.mark.parametrize("by", [[[0, 1, 2, 3, 4]], [[4, 2], [3], [0, 1]]], ids=["packed", "stages"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unpacking_what_was_packed_changes_nothing(by, dtype):
    rng = np.random.default_rng(0)

    def some(shapes):
        # Numbers that bfloat16 has too, in the dtype that does not hide anything.
        return [tf.constant(rng.integers(-128, 128, shape), tf.float64) for shape in shapes]

    gradients, statistics = some(SHAPES), some([(6,), (1, 3)])
    part = SimpleNamespace(trainable=gradients, statistics=statistics)
    exchange = Exchange(part, by, dtype)
    metrics = tf.constant([0.5, 3.0, 8.0])
    vectors = exchange.pack(Results(gradients, statistics, metrics))
    assert len(vectors) == len(by) + (dtype != "float32")
    # As if two replicas had the same.
    found = exchange.unpack([vector + vector for vector in vectors])
    for got, given in zip(
        [*found.gradients, *found.statistics], [*gradients, *statistics], strict=True
    ):
        assert got.dtype == given.dtype
        np.testing.assert_array_equal(got, 2 * given)
    np.testing.assert_array_equal(found.metrics, 2 * metrics)


def test_no_gradients_leave_metrics_and_statistics():
    exchange = Exchange(SimpleNamespace(trainable=[], statistics=[]), [[]], "bfloat16")
    (vector,) = exchange.pack(Results([], [], tf.constant([1.0, 2.0, 3.0])))
    assert exchange.unpack([vector]).metrics.numpy().tolist() == [1.0, 2.0, 3.0]


def two_stages(dtype):
    """A network of two stages and a head, by the names of a ResNet's."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for stage in ("conv2", "conv3"):
        x = keras.layers.Conv2D(4, 3, dtype=dtype, name=f"{stage}_block1_1_conv")(x)
        x = BatchNormalization(dtype=dtype, name=f"{stage}_block1_1_bn")(x)
        x = keras.layers.Activation("relu", dtype=dtype, name=f"{stage}_block1_out")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, dtype=dtype, name="predictions")(x))


def test_buckets_train_as_one_vector_does():
    def run(overlapped):
        seen = []

        def reduce(context, vectors):
            seen.append([vector.shape[0] for vector in vectors])
            total = tf.distribute.ReduceOp.SUM
            return [context.all_reduce(total, vector) for vector in vectors]

        made = Run(
            strategy=mirrored(),
            dtype="float64",
            build=two_stages,
            optimizer=OptimizerConfig(clip_norm=0.5),
            reduce=reduce,
            overlapped=overlapped,
        )
        losses = [metrics.loss for metrics in made.run(1, 2)]
        return seen, losses, made.arrays()

    (packed, losses, arrays), (lengths, *found) = run(False), run(True)
    assert [len(vectors) for vectors in packed] == [1, 1]
    assert [len(vectors) for vectors in lengths] == [3, 3]
    assert sum(lengths[0]) == packed[0][0]
    # Nothing but the order of sums within a kernel may differ, if that.
    np.testing.assert_allclose(found[0], losses, rtol=1e-13)
    for name, array in arrays.items():
        np.testing.assert_allclose(found[1][name], array, rtol=1e-11, atol=1e-13, err_msg=name)


def chosen(replicas=2, gpus=2, xla=True, inter_op=0):
    threads = {"inter_op": inter_op}
    names = ("H100",) * gpus
    return Runtime(None, replicas, names, "mixed_bfloat16", xla, threads=threads)


@pytest.mark.parametrize(
    ("asked", "on", "refusal"),
    [
        ({}, chosen(), None),
        ({"reduction": "overlapped"}, chosen(inter_op=2), None),
        ({"reduction": "overlapped", "reduce_dtype": "bfloat16"}, chosen(inter_op=2), None),
        ({"reduction": "overlapped"}, chosen(replicas=1, gpus=1), None),
        ({"reduction": "overlapped"}, chosen(xla=False), "Received: overlapped, xla off"),
        ({"reduction": "overlapped"}, chosen(gpus=0), "overlapped, 2 replicas on CPUs"),
        (
            {"reduction": "overlapped", "logical_devices": 2},
            chosen(gpus=1),
            "overlapped, 2 replicas on one GPU",
        ),
        ({"reduction": "overlapped"}, chosen(inter_op=1), "add --inter-op-threads 2. Received: 1"),
        ({"reduce_dtype": "bfloat16"}, chosen(), "or try --reduction overlapped"),
    ],
)
def test_what_this_machine_cannot_add_up_is_refused(asked, on, refusal):
    config = RuntimeConfig(**asked)
    if refusal is None:
        check_reduction(config, on)
        return
    with pytest.raises(ConfigError, match=refusal) as error:
        check_reduction(config, on)
    assert "\n" not in str(error.value)
