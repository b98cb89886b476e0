"""From flags to a resolved configuration: what they change, and every mistake in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcifar import arguments, config_file, recipes
from fastcifar.arguments import parse_evaluate, parse_train
from fastcifar.config import PhaseConfig, RunConfig
from fastcifar.errors import ConfigError, RunDirError, UserError
from fastcifar.rundir import RunDir

NAMES = ", ".join(recipes.names())


@pytest.fixture
def two_phases(tmp_path):
    """The path of a configuration of two phases."""
    phases = (
        PhaseConfig(epochs=3, learning_rate=0.1, name="head"),
        PhaseConfig(epochs=7, learning_rate=0.01, warmup_epochs=2.0, name="all"),
    )
    path = tmp_path / "two.json"
    path.write_text(json.dumps(config_file.to_dict(RunConfig(recipe="two", phases=phases))))
    return str(path)


@pytest.fixture
def run_dir(tmp_path):
    """A folder that holds a run of quickstart."""
    RunDir.create(tmp_path / "run", recipes.get("quickstart"), {})
    return str(tmp_path / "run")


def refusal(parse, *given_arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(given_arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_alone_is_the_recipe(name):
    order = parse_train([name])
    assert order.config == recipes.get(name)
    assert not order.resume
    assert re.fullmatch(rf"runs/{name}-\d{{8}}T\d{{6}}Z", order.run_dir)


def test_flags_override_the_recipe():
    line = (
        "quickstart --seed 7 --global-batch-size=64 --depth 26 --optimizer adamw --clip-norm 1.5 "
        "--limit-train 100 --precision float32 --steps-per-call 4 --no-zero-gamma "
        "--deterministic --run-dir out"
    )
    order = parse_train(line.split())
    recipe = recipes.get("quickstart")
    assert order.run_dir == "out"
    assert order.config == dataclasses.replace(
        recipe,
        seed=7,
        global_batch_size=64,
        data=dataclasses.replace(recipe.data, limit_train=100),
        model=dataclasses.replace(recipe.model, depth=26, zero_gamma=False),
        optimizer=dataclasses.replace(recipe.optimizer, optimizer="adamw", clip_norm=1.5),
        runtime=dataclasses.replace(
            recipe.runtime, precision="float32", steps_per_call="4", deterministic=True
        ),
    )


@pytest.mark.parametrize(
    "given_arguments",
    [
        "--seed 7 quickstart",
        "quickstart --seed=7",
        "quickstart --seed 3 --seed 7",
        "--deterministic quickstart --no-deterministic --seed 7",
        "quickstart --seed 7 --clip-norm None",
    ],
)
def test_ways_of_saying_the_same(given_arguments):
    config = parse_train(given_arguments.split()).config
    assert config == dataclasses.replace(recipes.get("quickstart"), seed=7)


def test_underscores_are_dashes():
    config = parse_train(["quickstart", "--global_batch_size", "64", "--run_dir", "x"]).config
    assert config.global_batch_size == 64


def test_one_value_is_for_all_phases(two_phases):
    config = parse_train(["--config", two_phases, "--image-size", "64", "--augment=none"]).config
    assert [phase.image_size for phase in config.phases] == [64, 64]
    assert [phase.augment for phase in config.phases] == ["none", "none"]
    assert [phase.epochs for phase in config.phases] == [3, 7]


def test_one_value_a_phase(two_phases):
    line = "--epochs 10,5 --learning-rate=1e-3,2 --schedule constant,cosine --warmup-epochs 0.5,1"
    config = parse_train(["--config", two_phases, *line.split()]).config
    first, second = config.phases
    assert first == PhaseConfig(10, 1e-3, "constant", 0.5, name="head")
    assert second == PhaseConfig(5, 2.0, "cosine", 1.0, name="all")


def test_fewer_epochs_than_the_warm_up_cut_it(two_phases):
    phases = parse_train(["--config", two_phases, "--epochs", "1"]).config.phases
    assert [(p.epochs, p.warmup_epochs) for p in phases] == [(1, 0.0), (1, 1.0)]
    said = refusal(parse_train, "--config", two_phases, "--epochs", "1", "--warmup-epochs", "2")
    assert said == "warmup-epochs must be between 0 and the phase's epochs. Received: 2.0"


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4"])
def test_another_count_of_values_is_refused(two_phases, text):
    said = refusal(parse_train, "--config", two_phases, "--epochs", text)
    assert said == f"epochs takes one value or 2, one a phase. Received: '{text}'"


def test_a_run_of_one_phase_takes_one_value():
    said = refusal(parse_train, "quickstart", "--epochs", "1,2")
    assert said == "epochs takes one value. Received: '1,2'"


@pytest.mark.parametrize(
    ("given_arguments", "said"),
    [
        (
            [],
            f"train needs a recipe: {NAMES}. `fastcifar recipes` "
            "describes them; `train --config FILE` reads a configuration instead",
        ),
        (
            ["nope"],
            f"recipe must be one of {NAMES}. Received: 'nope'.",
        ),
        (
            [""],
            f"recipe must be one of {NAMES}. Received: ''.",
        ),
        (["quickstart", "more"], "train takes one recipe. Received: 'quickstart' and 'more'"),
        (
            ["quickstart", "--deterministic", "yes"],
            "train takes one recipe. Received: 'quickstart' and 'yes'",
        ),
        (["quickstart", "--epoch", "3"], "there is no flag --epoch. Did you mean '--epochs'?"),
        (["quickstart", "--zzz"], "there is no flag --zzz."),
        (["quickstart", "--no-seed"], "there is no flag --no-seed. Did you mean '--seed'?"),
        (["quickstart", "--phases", "3"], "there is no flag --phases."),
        (["quickstart", "-s", "3"], "there is no flag -s"),
        (["quickstart", "-3"], "there is no flag -3"),
        (["quickstart", "--epochs"], "the flag --epochs needs a value: --epochs VALUE"),
        (["--config"], "the flag --config needs a value: --config VALUE"),
        (["--run-dir", "--resume"], "the flag --run-dir needs a value: --run-dir VALUE"),
        (["quickstart", "--resume=yes"], "the flag --resume takes no value. Received: 'yes'"),
        (["quickstart", "--epochs", "0"], "epochs must be 1 or more. Received: 0"),
        (["quickstart", "--epochs", "-3"], "epochs must be 1 or more. Received: -3"),
        (["quickstart", "--epochs", "x"], "epochs must be a whole number. Received: 'x'"),
        (["quickstart", "--epochs", "1.5"], "epochs must be a whole number. Received: '1.5'"),
        (["quickstart", "--epochs="], "epochs must be a whole number. Received: ''"),
        (
            ["quickstart", "--learning-rate", "nan"],
            "learning-rate must be a finite number. Received: nan",
        ),
        (["quickstart", "--learning-rate", "-1"], "learning-rate must be above 0. Received: -1.0"),
        (["quickstart", "--seed", "x"], "seed must be a whole number. Received: 'x'"),
        (["quickstart", "--clip-norm", "x"], "clip-norm must be a number. Received: 'x'"),
        (["quickstart", "--clip-norm", "-1"], "clip-norm must be above 0. Received: -1.0"),
        (
            ["quickstart", "--optimizer", "sgdd"],
            "optimizer must be one of sgd, adam, adamw, rmsprop. Received: 'sgdd'. "
            "Did you mean 'sgd'?",
        ),
        (
            ["quickstart", "--depth", "18"],
            "depth must be one of 14, 26, 50, 101, 152. Received: '18'.",
        ),
        (
            ["quickstart", "--schedule", "cosin"],
            "schedule must be one of constant, cosine, one_cycle. Received: 'cosin'. "
            "Did you mean 'cosine'?",
        ),
        (
            ["quickstart", "--source", "image_folder"],
            "source image_folder needs its folder: add --data-path DIR. Received: data-path None",
        ),
        (
            ["--config", "/absent"],
            "config file /absent cannot be read: No such file or directory",
        ),
        (["--resume"], "resume needs the folder of the run: add --run-dir RUN"),
        (
            ["--resume", "--run-dir", "/absent"],
            "/absent is not a run folder: it has no config.json",
        ),
        (
            ["--resume", "--run-dir", "x", "--config", "y"],
            "resume takes the run's own configuration: leave --config out",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line(given_arguments, said):
    assert refusal(parse_train, *given_arguments) == said


def test_a_configuration_file_with_flags_on_top(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"seed": 5, "data": {"source": "synthetic"}}')
    order = parse_train(["--config", str(path), "--prefetch", "9"])
    assert order.config.seed == 5
    assert order.config.data.source == "synthetic"
    assert order.config.data.prefetch == 9
    assert order.config.recipe == "custom"
    assert order.run_dir.startswith("runs/custom-")


def test_a_partial_file_on_top_of_a_recipe(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"seed": 5}')
    config = parse_train(["cifar10-scratch", "--config", str(path)]).config
    assert config == dataclasses.replace(recipes.get("cifar10-scratch"), seed=5)


def test_resume_takes_the_runs_own_configuration(run_dir):
    default = ["--epochs", str(recipes.get("quickstart").epochs)]
    for extra in ([], ["quickstart"], ["--seed", "0"], default, ["--no-deterministic"]):
        order = parse_train(["--resume", "--run-dir", run_dir, *extra])
        assert order.resume
        assert order.run_dir == run_dir
        assert order.config == recipes.get("quickstart")


def test_resume_may_use_the_machine_in_another_way(run_dir):
    order = parse_train(
        ["--resume", "--run-dir", run_dir, "--precision", "float32", "--steps-per-call", "1"]
    )
    assert order.config.runtime.precision == "float32"
    assert order.config.runtime.steps_per_call == "1"
    assert dataclasses.replace(
        order.config, runtime=recipes.get("quickstart").runtime
    ) == recipes.get("quickstart")


def test_resume_may_answer_a_divergence_in_another_way(run_dir):
    flags = ["--on-divergence", "rollback", "--rollback-factor", "0.1", "--max-rollbacks", "5"]
    config = parse_train(["--resume", "--run-dir", run_dir, *flags]).config
    assert (config.on_divergence, config.rollback_factor) == ("rollback", 0.1)
    assert config.max_rollbacks == 5


def test_resume_may_keep_the_images_elsewhere(run_dir):
    order = parse_train(["--resume", "--run-dir", run_dir, "--memory-budget", "1GB"])
    assert order.config.data.memory_budget == "1GB"


def test_the_rate_is_scaled_from_the_recipes_batch():
    flags = ["cifar10-32px", "--global-batch-size", "256", "--scale-learning-rate"]
    assert parse_train(flags).config.phases[0].learning_rate == pytest.approx(0.002)
    given = parse_train([*flags, "--learning-rate", "0.1"]).config
    assert given.phases[0].learning_rate == pytest.approx(0.2)
    same = parse_train(["cifar10-32px", "--scale-learning-rate"]).config
    assert same == recipes.get("cifar10-32px")


def test_workers_share_one_run_folder():
    flags = ["quickstart", "--strategy", "multi_worker"]
    assert refusal(parse_train, *flags) == (
        "strategy multi_worker needs one run folder for all workers: add --run-dir DIR, the same "
        "on each"
    )
    assert parse_train([*flags, "--run-dir", "x"]).config.runtime.strategy == "multi_worker"
    assert refusal(parse_train, *flags, "--logical-devices", "2").startswith(
        "strategy multi_worker uses the devices that a host has, so logical-devices must be 1"
    )


def test_a_run_of_several_hosts_is_evaluated_on_one(tmp_path):
    config = recipes.get("quickstart")
    runtime = dataclasses.replace(config.runtime, strategy="multi_worker")
    RunDir.create(tmp_path / "run", dataclasses.replace(config, runtime=runtime), {})
    order = parse_evaluate([str(tmp_path / "run")])
    assert order.config.runtime.strategy == "auto"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("seed", "1"),
        ("global-batch-size", "64"),
        ("checkpoint-every", "2"),
        ("source", "tfds"),
        ("limit-train", "100"),
        ("width", "8"),
        ("weight-decay", "0"),
        ("epochs", "6"),
        ("epochs", "1"),
        ("learning-rate", "0.1"),
        ("augment", "none"),
    ],
)
def test_resume_refuses_another_configuration_by_its_flag(run_dir, flag, value):
    said = refusal(parse_train, "--resume", "--run-dir", run_dir, f"--{flag}", value)
    assert said == (
        f"a resumed run keeps its configuration: leave --{flag} out, or start a new run with "
        "--config and another --run-dir"
    )


def test_resume_refuses_another_recipe(run_dir):
    said = refusal(parse_train, "cifar10-32px", "--resume", "--run-dir", run_dir)
    assert said == f"run folder {run_dir} holds a run of quickstart. Received: 'cifar10-32px'"


def test_resume_refuses_a_damaged_configuration(run_dir):
    (RunDir(run_dir).config_path).write_text("{")
    with pytest.raises(RunDirError, match=r"config\.json must be JSON"):
        parse_train(["--resume", "--run-dir", run_dir])


def test_evaluate_starts_from_the_runs_configuration(run_dir):
    order = parse_evaluate([run_dir])
    assert order.config == recipes.get("quickstart")
    assert order.run_dir == run_dir
    assert order.checkpoint == "auto"


def test_evaluate_on_other_images(run_dir):
    line = "--source image_folder --data-path x --checkpoint=best --global-batch-size 16"
    order = parse_evaluate([run_dir, *line.split()])
    assert order.checkpoint == "best"
    assert order.config.global_batch_size == 16
    assert (order.config.data.source, order.config.data.data_path) == ("image_folder", "x")
    assert order.config.model == recipes.get("quickstart").model


@pytest.mark.parametrize(
    ("own", "holds", "source"),
    [
        ("synthetic", [], "image_folder"),
        ("keras", [], "image_folder"),
        ("tfds", ["cat/1.png"], "image_folder"),
        ("tfds", ["cifar10/3.0.2/dataset_info.json"], "tfds"),
        ("tfds", ["dataset_info.json"], "tfds"),
        ("kaggle", ["cat/1.png"], "image_folder"),
        ("kaggle", ["trainLabels.csv"], "kaggle"),
    ],
)
def test_what_holds_no_data_of_the_runs_kind_is_a_folder_of_images(tmp_path, own, holds, source):
    """A run of TFDS would else download its own set into the folder, and evaluate that."""
    config = recipes.get("quickstart")
    data = dataclasses.replace(config.data, source=own, limit_test=7)
    RunDir.create(tmp_path / "run", dataclasses.replace(config, data=data), {})
    for name in holds:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    given = ["--data-path", str(tmp_path / "data")]
    order = parse_evaluate([str(tmp_path / "run"), *given])
    assert order.config.data.source == source
    assert order.config.data.data_path == str(tmp_path / "data")
    assert order.whole == (source == "image_folder")
    assert order.config.data.limit_test == (None if order.whole else 7)
    order = parse_evaluate([str(tmp_path / "run"), *given, "--limit-test", "5"])
    assert order.config.data.limit_test == 5


@pytest.mark.parametrize(
    ("given_arguments", "said"),
    [
        ([], "evaluate needs the folder of a run: fastcifar evaluate RUN"),
        (["/absent"], "/absent is not a run folder: it has no config.json"),
        (["RUN", "x"], "evaluate takes one run. Received: 'RUN' and 'x'"),
        (
            ["RUN", "--checkpoint", "newest"],
            "checkpoint must be one of auto, best, last. Received: 'newest'. Did you mean 'best'?",
        ),
        (["RUN", "--global-batch-size", "x"], "global-batch-size must be a whole number."),
        (["RUN", "--epochs", "3"], "there is no flag --epochs."),
    ],
)
def test_evaluate_refuses_a_mistake_in_one_line(given_arguments, said, run_dir):
    given_arguments = [run_dir if argument == "RUN" else argument for argument in given_arguments]
    assert refusal(parse_evaluate, *given_arguments).startswith(said.replace("RUN'", f"{run_dir}'"))


def test_every_field_has_a_flag_that_is_explained(capsys):
    with pytest.raises(SystemExit) as left:
        parse_train(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    names = set(arguments._flag_types(arguments.TrainFlags))
    config = RunConfig()
    for section in (config, config.data, config.model, config.optimizer, config.runtime):
        for field in dataclasses.fields(section):
            if not dataclasses.is_dataclass(getattr(section, field.name)):
                names.add(field.name.replace("_", "-"))
    names -= {"recipe", "phases"}
    names |= {"config", "run-dir", "resume", "epochs", "learning-rate", "schedule"}
    names |= {"warmup-epochs", "augment", "image-size"}
    for name in names:
        assert f" --{name}" in shown, name
    assert "run.recipe" not in shown
    # Each flag has its line of help: no field without its docstring.
    unexplained = re.findall(r"(?m)^│ (--\S+)[^│]*│\n│ +\(default", shown)
    assert not unexplained


def test_help_shows_the_recipes_values(capsys):
    with pytest.raises(SystemExit):
        parse_train(["quickstart", "--help"])
    assert re.search(r"--depth [^-]*default:\s+14", capsys.readouterr().out.replace("│", ""))


WORDS = st.sampled_from(
    [
        *("quickstart", "nope", "", "-", "--", "-h ", "-1", "1", "1,2", "0.5", "None", "none", "="),
        *("--epochs", "--epochs=1", "--seed", "--seed=", "--seed=-1", "--clip-norm", "--data-path"),
        *("--clip-norm=None", "--deterministic", "--no-deterministic", "--no-resume", "--xla=on"),
        *("--depth=+50", "--depth=50", "--seed=1_0", "--seed= 1", "--run-dir", "--run-dir=--x"),
        *("--limit-train=1e3", "--precision=auto", "--help=", "--no-help", "---seed", "--se\nd"),
        *("--dataset", "--dataset=a=b", "--dataset=@x", "--dataset=-x", "--learning-rate=1e3"),
    ]
)


@given(st.lists(WORDS, max_size=5))
def test_whatever_is_typed_gives_an_order_or_one_line(given_arguments):
    """Never a traceback, and never a box of tyro's."""
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_train(given_arguments).config, RunConfig)


def test_image_size_may_grow_within_a_phase():
    (phase,) = parse_train(["cifar10-32px", "--image-size", "128:224"]).config.phases
    assert (phase.start_image_size, phase.image_size) == (128, 224)
    (phase,) = parse_train(["cifar10-32px", "--image-size", "64"]).config.phases
    assert (phase.start_image_size, phase.image_size) == (None, 64)


@pytest.mark.parametrize("text", ["224:128", "a:224", "0:64"])
def test_image_sizes_that_do_not_grow_are_refused(text):
    with pytest.raises(ConfigError, match="image-size"):
        parse_train(["cifar10-32px", "--image-size", text])
