"""`scripts/gpu_suite`: one mistake, one line, exit status 2; parts that fit the other commands."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastcifar.bench import commands as bench_commands
from fastcifar.bench import flags
from fastcifar.bench.process_flags import AccuracyFlags, LadderFlags, PrecisionFlags, TuneFlags
from fastcifar.bench.suite import command, packages
from fastcifar.bench.suite.parts import Setting, parts, without_tensorflow
from fastcifar.errors import ConfigError, FastcifarError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def images(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
    return tmp_path / "images"


def refused(arguments, **options):
    with pytest.raises(FastcifarError) as caught:
        command._run([str(a) for a in arguments], **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_mistakes_are_refused_before_anything_starts(tmp_path):
    def probe(variables):
        raise AssertionError("too late")

    out = tmp_path / "out"
    assert "Received: 'setp'. Did you mean 'step'?" in refused([out, "setp"], probe=probe)
    said = refused([out, "--data", tmp_path], probe=probe)
    assert said.startswith("data must be a folder with train/CLASS and test/CLASS.")
    assert "minutes must be above 0. Received: -1" in refused([out, "--minutes", "-1"], probe=probe)
    assert "unrecognized arguments: --smal" in refused([out, "--smal"], probe=probe)
    assert "a folder for the records is needed" in refused(["--small"], probe=probe)
    assert "must hold wheels" in refused([out, "--wheels", tmp_path], probe=probe)
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    said = refused([tmp_path / "file" / "out", "check", "--small"], probe=lambda variables: 0)
    assert "must be a folder that can be written: Not a directory" in said


def test_without_a_gpu_it_says_what_to_do(tmp_path):
    said = refused([tmp_path / "out"], probe=lambda variables: 0)
    assert said.startswith("the suite needs a GPU that TensorFlow sees: --small")
    assert not (tmp_path / "out").exists()


def test_with_jax_alone_it_measures_the_step_alone(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(packages, "importable", lambda module: module == "jax")
    monkeypatch.setattr(packages, "missing", lambda names: ["tensorflow", "keras", "rich"])
    monkeypatch.setattr(command.Runner, "run", lambda self, parts, **_: ran.extend(parts) or True)

    def probe(variables):
        raise AssertionError("there is no TensorFlow to ask")

    assert command._run([str(tmp_path / "out")], probe=probe) == 0
    assert [part.name for part in ran] == ["hlo"]
    assert "the compiled step alone" in capsys.readouterr().out
    (task,) = ran[0].tasks
    for word in task.commands[0][1:-2]:
        assert Path(word).is_file()


def test_a_python_without_tensorflow_says_so(tmp_path):
    script = ROOT / "scripts" / "gpu_suite"
    done = subprocess.run(
        [script, tmp_path / "out"],
        # Without the packages of this environment.
        env={"PYTHON": f"{sys.executable}", "PATH": "/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
        | {"PYTHONPATH": str(_hiding(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "must have tyro, which it lacks: fetch them by --wheels FOLDER" in done.stderr
    assert done.stderr.count("\n") == 1


def _hiding(folder):
    """A module that makes Python not find tyro."""
    (folder / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'tyro' else found(name, *rest)\n"
    )
    return folder


def test_the_list_has_every_part_and_record(capsys):
    assert command.main(["--list"]) == 0
    said = capsys.readouterr().out
    for part in parts(Setting()):
        assert f"{part.name} " in said
        assert f"{part.minutes:g} min" in said
        for task in part.tasks:
            assert f"{task.record}.json" in said


def test_help_and_nothing(capsys):
    assert command.main(["--help"]) == 0
    assert command.main([]) == 2
    assert "usage: scripts/gpu_suite OUT" in capsys.readouterr().out


def test_the_process_that_runs_the_parts_needs_no_package():
    code = (
        "import sys; import fastcifar.bench.suite.command;"
        "assert not {'tyro', 'numpy', 'rich', 'psutil', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_record_can_be_asked_for_alone():
    (part,) = command._chosen(["gpu-trace-224px"], parts(Setting()))
    assert part.name == "startup-trace-tune"
    assert [task.record for task in part.tasks] == ["gpu-trace-224px"]
    chosen = command._chosen(["step", "gpu-stages-32px", "check"], parts(Setting()))
    assert [part.name for part in chosen] == ["check", "step", "stages"]
    assert len(chosen[-1].tasks) == 1
    whole = command._chosen(["stages", "gpu-stages-32px"], parts(Setting()))
    assert len(whole[0].tasks) == 4


def test_parts_come_in_the_order_of_their_worth(images):
    found = parts(Setting(images))
    assert [part.name for part in found] == [
        *("check", "step", "stages", "precision-ladder", "scratch", "correct"),
        "startup-trace-tune",
    ]
    assert [part.minutes for part in found[:5]] == [2, 12, 4, 5, 9]
    records = [task.record for part in found for task in part.tasks]
    assert len(set(records)) == len(records)


def test_the_documentation_has_every_part_and_a_place_for_every_record():
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for part in (without_tensorflow(), *parts(Setting())):
        assert f"| `{part.name}` | {part.minutes:g} |" in page
        for task in part.tasks:
            assert f"<!-- table: {task.record} -->" in page


FLAGS = {
    "accuracy": AccuracyFlags,
    "ladder": LadderFlags,
    "precision": PrecisionFlags,
    "stages": bench_commands.StagesFlags,
    "tune": TuneFlags,
}


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_what_parts_ask_for_is_understood(small, folder, images):
    kinds = set()
    for part in parts(Setting(images if folder else None, small)):
        for task in part.tasks:
            for module, *rest in task.commands:
                if module != "fastcifar":
                    continue
                if rest[0] == "train":
                    assert flags.run_flags.parse_train(rest[1:]).config
                    continue
                kind, *arguments = rest[1:]
                kinds.add(kind)
                given, left = flags.split(arguments, FLAGS.get(kind, flags.MeasureFlags))
                assert given.out == "{record}"
                config = flags.run_config(left, shlex.join(rest))
                size = 16 if small else 224
                if task.record.endswith("224px"):
                    assert config.phases[0].image_size == size
                if folder and kind in ("stages", "accuracy"):
                    assert config.data.data_path == str(images)
    assert kinds >= {"step", "stages", "precision", "ladder", "accuracy", "startup", "levers"}


def test_what_is_missing_is_told_by_module():
    assert packages.module_of("pillow") == "PIL"
    assert packages.module_of("keras-cv") == "keras_cv"
    names = packages.dependencies()
    assert set(names) >= packages.NEEDED
    assert packages.missing(names, lambda module: module != "keras_cv") == ["keras-cv"]
    assert packages.missing(names) == []


def test_what_only_some_commands_import_is_told_and_no_hindrance(monkeypatch, capsys):
    monkeypatch.setattr(packages, "missing", lambda names: ["importlib-resources"])
    command._check_packages(None)
    assert "not needed by the suite: importlib-resources" in capsys.readouterr().out
    monkeypatch.setattr(packages, "missing", lambda names: ["rich"])
    with pytest.raises(ConfigError, match="must have rich"):
        command._check_packages(None)
