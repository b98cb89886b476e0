"""The command line as a person meets it: exit status, one line on stderr, help at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from fastcifar import __version__, cli, config_file, recipes
from fastcifar.augment import policies
from fastcifar.errors import DivergenceError, FastcifarError
from fastcifar.training.interrupts import Interrupted

NAMES = ", ".join(recipes.names())


def shell(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastcifar", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


COMMANDS = "train, evaluate, recipes, prepare, augment, bench"
MISTAKES = [
    ([], f"a command is needed: {COMMANDS}. fastcifar --help explains"),
    (
        ["tarin"],
        f"the command must be one of {COMMANDS}. Received: 'tarin'. Did you mean 'train'?",
    ),
    ([""], f"the command must be one of {COMMANDS}. Received: ''."),
    (["--epochs"], f"the command must be one of {COMMANDS}. Received: '--epochs'."),
    (
        ["train"],
        f"train needs a recipe: {NAMES}. `fastcifar recipes` "
        "describes them; `train --config FILE` reads a configuration instead",
    ),
    (
        ["train", "quickstrat"],
        f"recipe must be one of {NAMES}. Received: 'quickstrat'. Did you mean 'quickstart'?",
    ),
    (
        ["train", "quickstart", "--optimiser", "sgd"],
        "there is no flag --optimiser. Did you mean '--optimizer'?",
    ),
    (
        ["train", "quickstart", "--optimizer", "lion"],
        "optimizer must be one of sgd, adam, adamw, rmsprop. Received: 'lion'.",
    ),
    (
        ["train", "quickstart", "--global-batch-size", "0"],
        "global-batch-size must be 1 or more. Received: 0",
    ),
    (["evaluate"], "evaluate needs the folder of a run: fastcifar evaluate RUN"),
    (["evaluate", "/absent"], "/absent is not a run folder: it has no config.json"),
    (
        ["train", "--resume", "--run-dir", "/absent"],
        "/absent is not a run folder: it has no config.json",
    ),
    (
        ["recipes", "cifar"],
        f"recipe must be one of {NAMES}. Received: 'cifar'. Did you mean 'cifar10-32px'?",
    ),
    (["recipes", "a", "b"], "recipes takes one name. Received: 'a' and 'b'"),
    (["recipes", "--long"], "recipes has no flags. Received: '--long'"),
    # Line ends in what was typed do not break the one line.
    (
        ["train", "--config", "/a\nb"],
        "config file /a b cannot be read: No such file or directory",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, said, capsys):
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"fastcifar: error: {said}\n"


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train", "quickstart", "--depth", "18"], ["evaluate", "/absent"]]
)
def test_a_mistake_in_a_process_of_its_own(arguments):
    run = shell(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("fastcifar: error: ")


def raising(error):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DivergenceError("the loss stopped"), 1, "fastcifar: error: the loss stopped\n"),
        (FastcifarError("first\nsecond"), 1, "fastcifar: error: first second\n"),
        (Interrupted("stopped at step 3", signal.SIGINT), 130, "fastcifar: stopped at step 3\n"),
        (Interrupted("stopped at step 3", signal.SIGTERM), 143, "fastcifar: stopped at step 3\n"),
        (
            KeyboardInterrupt(),
            130,
            "fastcifar: stopped at once; checkpoints written before this stay\n",
        ),
    ],
)
def test_the_exit_status_tells_what_happened(error, status, said, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_train", raising(error))
    assert cli.main(["train", "quickstart"]) == status
    assert capsys.readouterr().err == said


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_train", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "quickstart"])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_help(arguments, capsys):
    assert cli.main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for command in COMMANDS.split(", "):
        assert f"\n  {command} " in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--help"], "usage: fastcifar train RECIPE "),
        (["train", "-h"], "--global-batch-size"),
        (["train", "quickstart", "--seed", "3", "--help"], "--global-batch-size"),
        (["evaluate", "--help"], "usage: fastcifar evaluate RUN "),
        (["recipes", "--help"], "usage: fastcifar recipes [NAME]"),
    ],
)
def test_help_of_a_command(arguments, said, capsys):
    assert cli.main(arguments) == 0
    shown = capsys.readouterr()
    assert said in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("arguments", [["--version"], ["-V"]])
def test_version(arguments, capsys):
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"fastcifar {__version__}\n"


def test_recipes_lists_each_with_its_line(capsys):
    assert cli.main(["recipes"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("recipes, ")
    described = {name: recipes.describe(name) for name in recipes.names()}
    for line, (name, text) in zip(lines, described.items(), strict=False):
        assert line.split()[0] == name
        assert line.endswith(text)
    second, *lines = lines[len(described) :]
    assert second.startswith("policies, ")
    assert [line.split()[0] for line in lines] == list(policies.POLICIES)


def test_a_policy_is_shown_with_its_operations(capsys):
    assert cli.main(["recipes", "standard"]) == 0
    said = capsys.readouterr().out
    assert said == policies.get("standard").describe() + "\n"
    assert "PadCrop(padding=4" in said


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_shown_is_a_file_that_config_reads(name, tmp_path, capsys):
    from fastcifar.arguments import parse_train

    assert cli.main(["recipes", name]) == 0
    path = tmp_path / "recipe.json"
    path.write_text(capsys.readouterr().out)
    assert json.loads(path.read_text()) == config_file.to_dict(recipes.get(name))
    assert parse_train(["--config", str(path)]).config == recipes.get(name)


def test_a_reader_that_goes_away_is_no_error_of_ours():
    reading, writing = os.pipe()
    os.close(reading)
    # Buffered, as it is where nobody asks otherwise: what is left over fails at the exit.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        for arguments in (["recipes", "quickstart"], ["train", "--help"]):
            run = subprocess.run(
                [sys.executable, "-m", "fastcifar", *arguments],
                stdout=writing,
                stderr=subprocess.PIPE,
                env=env,
                text=True,
                check=False,
            )
            assert (run.returncode, run.stderr) == (1, "")
    finally:
        os.close(writing)


PARSING = {"docstring_parser", "numpy", "typeguard", "typing_extensions", "tyro"}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], set()),
        (["train", "--help"], PARSING),
        (["recipes"], PARSING),
        (["train", "quickstart", "--sede", "1"], PARSING),
    ],
)
def test_help_and_mistakes_come_at_once(arguments, needed):
    """What takes time is what is imported: TensorFlow 3 s, matplotlib and rich noticeably."""
    code = (
        "import sys\n"
        "from fastcifar import cli\n"
        f"cli.main({arguments!r})\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        f"more = names - set(sys.stdlib_module_names) - {needed | {'fastcifar'}!r}\n"
        "more = {name for name in more if not name.startswith('_')}  # of the interpreter's start\n"
        "sys.exit(f'imported: {more}' if more else 0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
