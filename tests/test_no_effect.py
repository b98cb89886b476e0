"""Settings without effect: what is refused, what is noted, and what is left in peace."""

import dataclasses

import pytest

from fastcifar import no_effect, recipes
from fastcifar.arguments import parse_evaluate, parse_train
from fastcifar.config import DataConfig
from fastcifar.errors import ConfigError
from fastcifar.no_effect_rules import OF_THE_SOURCE, OF_TRAINING, Situation
from fastcifar.rundir import RunDir

FOLDER = "--source image_folder --data-path photographs"
SITUATION = {
    "replicas": 1,
    "on_gpu": False,
    "xla": False,
    "side": 32,
    "on_disk": False,
    "brings_validation": False,
    "steps_per_epoch": 70,
}
GPU = {"on_gpu": True, "xla": True}


def notes_of(command, **facts):
    """What is noted of `train quickstart` with the flags of `command`."""
    order = parse_train(["quickstart", *command.split()])
    situation = Situation(order.config, **{**SITUATION, **facts})
    given = no_effect.given_fields(order.config, order.typed)
    no_effect.refuse(order.config.data, given)
    return order.notes + no_effect.of_training(situation, given)


# Flags; what else decides; the start of the note; flags and facts with which there is none.
NOTED = [
    (
        "--momentum 0.8",
        {},
        "--momentum 0.8 has no effect: it is of optimizer sgd",
        "--optimizer sgd",
        {},
    ),
    ("--momentum 0.9", {}, "--momentum 0.9 has no effect", "--optimizer sgd", {}),
    (
        "--momentum 0.8 --optimizer rmsprop",
        {},
        "--momentum 0.8 has no effect",
        "--optimizer sgd",
        {},
    ),
    (
        "--storage-size 16",
        {},
        "--storage-size 16 has no effect: source synthetic draws",
        FOLDER,
        {},
    ),
    ("--non-square pad", {}, "--non-square pad has no effect: source synthetic", FOLDER, {}),
    (
        "--non-square pad --source keras",
        {},
        "--non-square pad has no effect: the images of source keras are square",
        FOLDER,
        {},
    ),
    ("--skip-unreadable", {}, "--skip-unreadable has no effect: source synthetic", FOLDER, {}),
    (
        "--skip-unreadable --source keras",
        {},
        "--skip-unreadable has no effect: source keras has",
        FOLDER,
        {},
    ),
    (
        f"--dataset cifar100 {FOLDER}",
        {},
        "--dataset cifar100 has no effect: source image_folder reads",
        "--source tfds",
        {},
    ),
    (
        "--synthetic-count 50 --source keras",
        {},
        "--synthetic-count 50 has no effect: source keras reads",
        "--source synthetic",
        {},
    ),
    (
        "--synthetic-classes 5 --source tfds",
        {},
        "--synthetic-classes 5 has no effect: source tfds reads",
        "--source synthetic",
        {},
    ),
    (
        "--synthetic-size 24 --source tfds",
        {},
        "--synthetic-size 24 has no effect: source tfds reads",
        "--source synthetic",
        {},
    ),
    (
        "--validation-fraction 0.2",
        {"brings_validation": True},
        "--validation-fraction 0.2 has no effect: the source brings",
        "",
        {"brings_validation": False},
    ),
    (
        "--cache disk --order shuffle_buffer",
        {},
        "--cache disk has no effect: order shuffle_buffer keeps",
        "--order permutation",
        {},
    ),
    (
        "--cache none",
        {"on_disk": True},
        "--cache none has no effect: the images are more than",
        "",
        {"on_disk": False},
    ),
    (
        "--cache disk --feature-cache memory --trainable head",
        {},
        "--cache disk has no effect: every phase trains on kept",
        "--trainable all",
        {},
    ),
    (
        "--transfer float32 --cache device",
        {},
        "--transfer float32 has no effect: with cache device",
        "--cache memory",
        {},
    ),
    (
        "--transfer float32 --resize-on host",
        {},
        "--transfer float32 has no effect: images that the host",
        "--resize-on device",
        {},
    ),
    (
        "--feature-cache disk",
        {},
        "--feature-cache disk has no effect: no phase trains the head",
        "--trainable head",
        {},
    ),
    (
        "--feature-views 3",
        {},
        "--feature-views 3 has no effect: there is no feature cache",
        "--trainable head --feature-cache disk",
        {},
    ),
    (
        "--feature-views 3 --trainable head --feature-cache disk --epochs 2",
        {},
        "--feature-views 3 has no effect: a phase has at most",
        "--epochs 3",
        {},
    ),
    (
        "--feature-views 3 --trainable head --feature-cache disk --augment none",
        {},
        "--feature-views 3 has no effect: a phase has at most",
        "--augment flip",
        {},
    ),
    (
        "--augment-on host --resize-on host --augment none",
        {},
        "--augment-on host has no effect: the policy none",
        "--augment flip",
        {},
    ),
    (
        "--augment-form matmul --augment none",
        {},
        "--augment-form matmul has no effect: the policy moves no",
        "--augment flip",
        {},
    ),
    (
        "--augment-form gather --augment trivial",
        {},
        "--augment-form gather has no effect: the policy rotates",
        "--augment flip",
        {},
    ),
    (
        "--parallel-map 1",
        {"on_disk": True},
        "--parallel-map 1 has no effect: images that are read from disk",
        "",
        {"on_disk": False},
    ),
    (
        "--parallel-map 1 --order shuffle_buffer",
        {},
        "--parallel-map 1 has no effect: order shuffle_buffer",
        "--order permutation",
        {},
    ),
    (
        "--no-zero-gamma --weights w.h5",
        {},
        "--no-zero-gamma has no effect: the weights w.h5 replace",
        "--weights none",
        {},
    ),
    (
        "--batch-norm-momentum 0.5 --trainable head",
        {},
        "--batch-norm-momentum 0.5 has no effect: every BatchNorm is frozen",
        "--head mlp",
        {},
    ),
    (
        "--batch-norm-momentum 0.5 --freeze-batch-norm true",
        {},
        "--batch-norm-momentum 0.5 has no effect",
        "--freeze-batch-norm false",
        {},
    ),
    (
        "--sync-batch-norm",
        {},
        "--sync-batch-norm has no effect: on one replica",
        "",
        {"replicas": 2},
    ),
    (
        "--resize-method nearest",
        {},
        "--resize-method nearest has no effect: images are stored at the size",
        "--image-size 48",
        {},
    ),
    (
        "--resize-method nearest",
        {},
        "--resize-method nearest has no effect",
        "--augment flip-rotate-zoom",
        {},
    ),
    (
        "--resize-method nearest",
        {},
        "--resize-method nearest has no effect",
        "--image-size 16:32",
        {},
    ),
    ("--devices 1", {}, "--devices 1 has no effect: there is no GPU", "", GPU),
    (
        "--logical-devices 2 --strategy none",
        {},
        "--logical-devices 2 has no effect: strategy none",
        "--strategy auto",
        {},
    ),
    (
        "--gpu-memory-limit 8GB",
        {},
        "--gpu-memory-limit 8GB has no effect: it is for the parts",
        "--logical-devices 2",
        GPU,
    ),
    (
        "--gpu-memory-limit 8GB --logical-devices 2",
        {},
        "--gpu-memory-limit 8GB has no effect",
        "",
        GPU,
    ),
    (
        "--reduce-dtype bfloat16",
        {},
        "--reduce-dtype bfloat16 has no effect: one replica",
        "",
        {"replicas": 2},
    ),
    (
        "--reduction overlapped",
        {},
        "--reduction overlapped has no effect: one replica",
        "",
        {"replicas": 2},
    ),
    ("--no-tf32", {}, "--no-tf32 has no effect: only GPUs", "", GPU),
    ("--deterministic", {}, "--deterministic has no effect: a CPU gives", "", GPU),
    ("--compile-cache c", {}, "--compile-cache c has no effect: XLA is off", "", GPU),
    (
        "--profile 2 --epochs 1",
        {"steps_per_epoch": 3},
        "--profile 2 has no effect: a trace is of a call",
        "",
        {"steps_per_epoch": 4},
    ),
    (
        "--profile 2 --epochs 1 --steps-per-call 30",
        {},
        "--profile 2 has no effect",
        "--steps-per-call 20",
        {},
    ),
    (
        "--warmup-epochs 0.001",
        {},
        "--warmup-epochs 0.001 has no effect: it is less than one step",
        "--warmup-epochs 0.1",
        {},
    ),
    (
        "--image-size 16:32 --epochs 1",
        {},
        "--image-size 16:32 has no effect: the size grows",
        "--epochs 2",
        {},
    ),
    (
        "--freeze-batch-norm true --trainable head",
        {},
        "--freeze-batch-norm true has no effect: trainable head",
        "--trainable all",
        {},
    ),
    (
        "--rate-decay 0.8 --trainable head",
        {},
        "--rate-decay 0.8 has no effect: trainable head",
        "--trainable all",
        {},
    ),
    (
        "--rollback-factor 0.1",
        {},
        "--rollback-factor 0.1 has no effect: a run that diverges stops",
        "--on-divergence rollback",
        {},
    ),
    (
        "--worker-timeout 5",
        {},
        "--worker-timeout 5.0 has no effect: it is of strategy multi_worker",
        "--strategy multi_worker --run-dir r",
        {},
    ),
    (
        "--max-rollbacks 2",
        {},
        "--max-rollbacks 2 has no effect",
        "--on-divergence rollback",
        {},
    ),
    (
        "--scale-learning-rate",
        {},
        "--scale-learning-rate has no effect: the rates are meant for",
        "--global-batch-size 64",
        {},
    ),
    (
        "--allow-changed-data",
        {},
        "--allow-changed-data has no effect: neither --resume nor --weights",
        "--allow-changed-data --weights runs/one",
        {},
    ),
]


@pytest.mark.parametrize(("flags", "facts", "said", "other_flags", "other_facts"), NOTED)
def test_a_flag_without_effect_is_noted_and_with_effect_it_is_not(
    flags, facts, said, other_flags, other_facts
):
    found = [note for note in notes_of(flags, **facts) if note.startswith(said)]
    assert len(found) == 1
    flag = said.split()[0]
    effective = notes_of(f"{flags} {other_flags}", **{**facts, **other_facts})
    assert not [note for note in effective if note.startswith(flag)]


def test_every_rule_has_a_case():
    noted = " ".join(case[2] for case in NOTED)
    names = {
        name for rule in (*OF_THE_SOURCE, *OF_TRAINING) if not rule.refused for name in rule.fields
    }
    names -= {"workers"}  # of prepare
    spelt = {
        "start_image_size": "--image-size",
        "tf32": "--no-tf32",
        "zero_gamma": "--no-zero-gamma",
    }
    assert not [n for n in names if spelt.get(n, f"--{n.replace('_', '-')}") not in noted]


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize("facts", [{}, GPU, {"on_disk": True, "brings_validation": True}])
def test_a_recipe_as_it_is_has_no_notes(name, facts):
    config = recipes.get(name)
    situation = Situation(config, **{**SITUATION, **facts})
    assert no_effect.of_training(situation, no_effect.given_fields(config)) == ()


@pytest.mark.parametrize(
    "flags",
    ["--warmup-epochs 0", "--image-size 32 --epochs 1", "--profile None", "--compile-cache None"],
)
def test_what_is_switched_off_is_not_noted(flags):
    assert notes_of(f"{flags} --trainable all") == ()


def test_growth_that_is_left_out_of_a_recipe_is_not_noted():
    order = parse_train(["cifar10-finetune", "--image-size", "224", "--epochs", "1"])
    given = no_effect.given_fields(order.config, order.typed)
    assert "start_image_size" in given
    assert no_effect.of_training(Situation(order.config, **SITUATION), given) == ()


def test_a_recipe_changed_so_that_its_own_values_are_idle_has_no_notes():
    assert notes_of("--source tfds --optimizer sgd --trainable head --epochs 1") == ()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--data-path photographs",
            "reads no folder: name the source .* --source image_folder. "
            "Received: data-path 'photographs'",
        ),
        (
            "--dataset cifar100",
            "reads no data set: name the source .* Received: dataset 'cifar100'",
        ),
        ("--dataset cifar10", "reads no data set"),
    ],
)
def test_what_names_other_images_than_are_trained_on_is_refused(flags, said):
    with pytest.raises(ConfigError, match=said):
        notes_of(flags)


def test_a_configuration_counts_where_it_differs_from_its_recipe():
    config = recipes.get("quickstart")
    data = dataclasses.replace(config.data, data_path="photographs")
    with pytest.raises(ConfigError, match="reads no folder"):
        no_effect.refuse(data, no_effect.given_fields(dataclasses.replace(config, data=data)))
    assert no_effect.given_fields(config) == frozenset()
    named = dataclasses.replace(config, recipe="mine", global_batch_size=64, seed=3)
    assert "momentum" not in no_effect.given_fields(named)


def test_another_source_leaves_the_path_of_the_old_one_behind(tmp_path):
    """`evaluate RUN --source synthetic` must not be refused for a folder that the run had."""
    data = DataConfig(source="image_folder", data_path="photographs", dataset="x")
    run = dataclasses.replace(recipes.get("quickstart"), data=data)
    RunDir.create(tmp_path / "run", run, {})
    for source, dataset in (("synthetic", []), ("keras", ["--dataset", "mnist"])):
        arguments = [str(tmp_path / "run"), "--source", source, *dataset]
        found = parse_evaluate(arguments).config.data
        assert (found.source, found.data_path) == (source, None)
        assert found.dataset == (dataset[-1] if dataset else "cifar10")
    kept = parse_evaluate([str(tmp_path / "run"), "--limit-test", "5"]).config.data
    assert kept.data_path == "photographs"


def test_a_whole_configuration_leaves_nothing_of_a_recipe(tmp_path):
    path = tmp_path / "config.json"
    RunDir.create(tmp_path, recipes.get("cifar10-scratch"), {})
    with pytest.raises(ConfigError, match=r"leave nothing of the recipe.* Received: 'quickstart'"):
        parse_train(["quickstart", "--config", str(path)])
    path.write_text('{"seed": 5}')
    assert parse_train(["quickstart", "--config", str(path)]).config.seed == 5


def test_an_evaluation_says_which_flags_are_of_training():
    data = DataConfig(cache="disk", limit_train=5, limit_test=5)
    found = no_effect.of_evaluation(data, {"cache", "limit_train", "limit_test"})
    assert found == (
        "--cache disk has no effect: it is of training, and this evaluates",
        "--limit-train 5 has no effect: it is of training, and this evaluates",
    )
    assert no_effect.of_drawing(data, {"cache", "limit_train"}) == (
        "--cache disk has no effect: it is of training, and this draws training images",
    )
