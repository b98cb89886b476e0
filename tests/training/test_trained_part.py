"""Steps that train a part of the network: in every layout, to the bit, and in phases of a run."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.config import OptimizerConfig
from fastcifar.data.ordering import epoch_order
from fastcifar.models.losses import cross_entropy
from fastcifar.models.subsets import rate_factors, select
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints, trainer
from fastcifar.training.assembly import build_model
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.phase import build_step
from fastcifar.training.trained_part import of_subset
from fastcifar.training.trainer import train
from tests.training.small_run import STEPS_PER_EPOCH, small
from tests.training.test_trainer import StopAt
from tests.training.tiny import BATCH, SEED, Run, mirrored, tiny_resnet, tiny_split

pytestmark = pytest.mark.usefixtures("two_stages")

RATE, DECAY = 0.1, 5e-4


def build(dtype, **head):
    """The tiny ResNet as if it had been trained: every BatchNorm parameter matters."""
    model = tiny_resnet(dtype, **head)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.split("/")[0].endswith("_bn"):
            variable.assign(rng.uniform(0.2, 0.4, variable.shape))
    return model


def partial_run(
    which,
    *,
    replicas=1,
    dtype="float64",
    freeze_batch_norm=False,
    rate_decay=1.0,
    head=None,
    **more,
):
    """A run that trains the part `which` of `build`'s network."""

    def part(state):
        subset = select(state.model, which, freeze_batch_norm=freeze_batch_norm)
        return of_subset(state, subset, rate_decay)

    return Run(
        strategy=mirrored() if replicas == 2 else None,
        dtype=dtype,
        build=lambda dtype: build(dtype, **(head or {})),
        part=part,
        rate=RATE,
        **more,
    )


def changed_layers(before, after):
    """Names of the layers of which a variable differs, in any bit."""
    names = [name for name in before if name.startswith("model/")]
    return {n.split("/")[1] for n in names if not np.array_equal(before[n], after[n])}


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_head_with_dropout_trains_alike_in_every_layout(xla):
    """The frozen part has no batch statistics, so that all layouts compute the same."""
    head = {"dropout": 0.5}
    runs = {
        (replicas, parts): partial_run(
            "head",
            replicas=replicas,
            xla=xla,
            optimizer=OptimizerConfig(accumulate=parts),
            head=head,
        )
        for replicas, parts in ((1, 1), (1, 2), (2, 1))
    }
    losses = {layout: [m.loss for m in run.run(1, 2, 2)] for layout, run in runs.items()}
    expected = runs[1, 1].arrays()
    for layout, run in runs.items():
        np.testing.assert_allclose(losses[layout], losses[1, 1], rtol=1e-6, err_msg=str(layout))
        for name, value in run.arrays().items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    without = partial_run("head").run(1)[0].loss
    assert abs(without - losses[1, 1][0]) > 1e-4  # dropout did something


@pytest.mark.parametrize("which", ["head", "from:conv3_block1_3_conv"])
@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_frozen_does_not_change_in_any_bit(which, replicas):
    optimizer = OptimizerConfig(ema=0.9)
    run = partial_run(which, replicas=replicas, optimizer=optimizer, head={"head": "mlp"})
    before = run.arrays()
    run.run(3)
    after = run.arrays()
    trained = set(select(run.model, which).trained)
    assert changed_layers(before, after) == trained
    for name in before:
        kind, *path = name.split("/")
        if kind in ("slots", "average"):
            layer = path[-2]
            assert np.array_equal(before[name], after[name]) == (layer not in trained), name
    # Whoever else calls the network finds it whole.
    assert len(run.model.trainable_variables) == len(run.state.trainable)


def test_frozen_batch_norms_stay_while_the_rest_trains():
    run = partial_run("all", freeze_batch_norm=True, head={"head": "mlp"})
    before = run.arrays()
    run.run(3)
    layers = {layer.name for layer in run.model.layers if layer.weights}
    norms = {name for name in layers if name.endswith("_bn") and not name.startswith("head_")}
    assert norms
    assert changed_layers(before, run.arrays()) == layers - norms


@pytest.mark.parametrize("which", ["from:conv3", "all"])
def test_equals_a_plain_keras_loop(which):
    """SGD with Nesterov momentum in NumPy on a Keras network with frozen layers."""
    freeze = which == "all"
    run = partial_run(which, freeze_batch_norm=freeze)
    model, split = build("float64"), tiny_split()
    trained = select(run.model, which, freeze_batch_norm=freeze).trained
    for layer in model.layers:
        layer.trainable = layer.name in trained or not layer.weights
    velocity = [np.zeros(v.shape) for v in model.trainable_variables]
    order = epoch_order(seed=SEED, epoch=0, examples=len(split))
    for step in range(3):
        indices = order[step * BATCH : (step + 1) * BATCH]
        with tf.GradientTape() as tape:
            logits = model(split.images[indices] / 255, training=True)
            loss = tf.reduce_sum(cross_entropy(logits, tf.constant(split.labels[indices])))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        np.testing.assert_allclose(run.run(1)[0].loss, float(loss), rtol=1e-6)
        for i, variable in enumerate(model.trainable_variables):
            gradient = gradients[i].numpy() / BATCH
            if variable.path.endswith("kernel"):
                gradient += DECAY * variable.numpy()
            velocity[i] = 0.9 * velocity[i] - RATE * gradient
            variable.assign_add(0.9 * velocity[i] - RATE * gradient)
    for mine, expected in zip(run.model.variables, model.variables, strict=True):
        np.testing.assert_allclose(
            mine.numpy(), expected.numpy(), rtol=1e-6, atol=1e-9, err_msg=mine.path
        )


def test_rate_decay_scales_the_update_of_each_block():
    decay = 0.5
    optimizer = OptimizerConfig(momentum=0.0, weight_decay=0.0)  # updates are rate times gradient
    moved = {}
    for factor in (1.0, decay):
        run = partial_run("from:conv2", rate_decay=factor, optimizer=optimizer)
        before = run.arrays()
        run.run(1)
        moved[factor] = {name: value - before[name] for name, value in run.arrays().items()}
    factors = rate_factors(run.model, decay)
    assert {factors[v.path] for v in run.model.trainable_variables} == {1.0, 0.5, 0.25, 0.125}
    for variable in run.model.trainable_variables:
        name = f"model/{variable.path}"
        np.testing.assert_allclose(
            moved[decay][name], factors[variable.path] * moved[1.0][name], rtol=1e-6, atol=1e-12
        )


def in_phases(*trainable, **changes):
    """Phases of one epoch each that train one part after the other."""
    base = small(**{"runtime": {"steps_per_call": "1"}, **changes})
    phases = tuple(
        dataclasses.replace(base.phases[0], name=which, epochs=1, trainable=which)
        for which in trainable
    )
    return dataclasses.replace(base, phases=phases)


@pytest.fixture(scope="module")
def head_then_all(tmp_path_factory):
    """A run whose head trains before the whole does: (its folder, its summary)."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return RunDir(folder), train(in_phases("head", "all"), str(folder))


def test_a_phase_of_the_head_leaves_the_backbone(head_then_all):
    run, _ = head_then_all
    paths = Checkpoints(run.checkpoints_path).paths()
    assert [path.name for path in paths] == ["step-00000007.npz", "step-00000014.npz"]
    first, second = (checkpoints.load(path)[0] for path in paths)
    config = run.read_config()
    model = build_model(config.model, num_classes=10, seed=config.seed, dtype="float32")
    start = {f"model/{v.path}": v.numpy() for v in model.variables}
    assert changed_layers(start, first) == {"predictions"}
    assert changed_layers(first, second) == {layer.name for layer in model.layers if layer.weights}
    assert [entry["phase"] for entry in run.read_metrics()] == ["head", "all"]


def test_a_phase_starts_with_an_optimizer_that_knows_nothing(head_then_all):
    arrays, progress = checkpoints.load(Checkpoints(head_then_all[0].checkpoints_path).newest())
    assert progress.step == 2 * STEPS_PER_EPOCH
    assert arrays["updates"] == STEPS_PER_EPOCH


def test_forgetting_updates_keeps_the_weights():
    run = partial_run("head", dtype="float32", optimizer=OptimizerConfig(ema=0.5))
    run.run(2)
    before = run.arrays()
    run.state.forget_updates()
    after = run.arrays()
    for name, value in after.items():
        if name.startswith("slots/") or name == "updates":
            assert not value.any(), name
        else:
            weights = name.replace("average/", "model/", 1)
            np.testing.assert_array_equal(value, before[weights], err_msg=name)
    assert before["updates"] == 2


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(STEPS_PER_EPOCH - 1, marks=pytest.mark.slow),
        STEPS_PER_EPOCH,
        pytest.param(STEPS_PER_EPOCH + 1, marks=pytest.mark.slow),
    ],
)
def test_stopped_around_the_boundary_and_resumed_is_the_same(head_then_all, tmp_path, step):
    config, folder = head_then_all[0].read_config(), str(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(config, folder, display=StopAt(step))
    assert Checkpoints(RunDir(folder).checkpoints_path).newest().name == f"step-{step:08d}.npz"
    resumed = train(config, folder, resume=True)
    assert resumed["weights_sha256"] == head_then_all[1]["weights_sha256"]


def test_phases_of_one_program_compile_once(tmp_path, monkeypatch):
    built = []

    def recorded(*arguments):
        built.append(build_step(*arguments))
        return built[-1]

    monkeypatch.setattr(trainer, "build_step", recorded)
    base = in_phases("head", "head", "head")
    slower = dataclasses.replace(base.phases[1], learning_rate=1e-4, name="slower")
    smaller = dataclasses.replace(base.phases[2], image_size=8, name="smaller")
    config = dataclasses.replace(base, phases=(base.phases[0], slower, smaller))
    train(config, str(tmp_path / "run"))
    assert [step.traces for step in built] == [1, 1]
