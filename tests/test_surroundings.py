"""Other people's machines: backends, encodings, no home, notebooks."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastcifar import surroundings

REPOSITORY = Path(__file__).resolve().parents[1]


def python(code: str, **environ: str) -> subprocess.CompletedProcess:
    """Run code with these environment variables alone."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environ},
    )


KERAS = (
    "import json\nfrom fastcifar import surroundings\n"
    "surroundings.settle_keras()\n"
    "import keras\n"
    "print(json.dumps([keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(),\n"
    "    keras.config.image_data_format(), keras.layers.Dense(1).dtype_policy.name]))\n"
)
OURS = ["tensorflow", "float32", 1e-7, "channels_last", "float32"]


@pytest.mark.parametrize(
    ("variables", "keras_json"),
    [
        (
            {"KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1", "MPLBACKEND": "module://no"},
            '{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.5}',
        ),
        pytest.param({}, '{"backend": "jax"}', marks=pytest.mark.slow),
        pytest.param({}, "{", marks=pytest.mark.slow),
    ],
)
def test_keras_is_ours_whatever_the_user_has_set(tmp_path, variables, keras_json):
    (tmp_path / "keras.json").write_text(keras_json)
    done = python(KERAS, HOME="/", KERAS_HOME=str(tmp_path), TF_CPP_MIN_LOG_LEVEL="3", **variables)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == OURS


@pytest.mark.parametrize(
    ("keras_json", "said"),
    [
        ('{"floatx": "bfloat16"}', "floatx in .* must be one of float16, .*'bfloat16'"),
        ('{"image_data_format": "NHWC"}', "image_data_format in .* must be one of .*'NHWC'"),
        ('{"epsilon": 1}', "epsilon in .* must be a number with a point.* 1"),
        ("[]", "keras.json must hold a JSON object"),
    ],
)
def test_a_keras_json_that_keras_fails_on_is_one_line(
    tmp_path, monkeypatch, capsys, keras_json, said
):
    from fastcifar import cli

    (tmp_path / "keras.json").write_text(keras_json)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert cli.main(["augment", "flip", "--source", "synthetic"]) == 2
    assert re.fullmatch(rf"fastcifar: error: .*{said}.*\n", capsys.readouterr().err)


def test_a_keras_that_was_imported_with_another_backend_is_refused(monkeypatch):
    import keras

    from fastcifar.errors import DeviceError

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(DeviceError, match="Received: Keras on torch"):
        surroundings.settle_keras()


def test_a_process_without_a_home_gets_one_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings.tempfile, "tempdir", str(tmp_path))
    # As it answers where there is neither HOME nor an entry for the user.
    monkeypatch.setattr(surroundings.os.path, "expanduser", lambda text: text)
    for _ in range(2):  # the same in every process
        environ: dict[str, str] = {}
        surroundings.settle_variables(environ)
        assert environ["HOME"] == f"{tmp_path}/fastcifar-{os.getuid()}"
    assert Path(environ["HOME"]).stat().st_mode & 0o777 == 0o700


def test_a_home_is_never_somebody_elses(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings.tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / "theirs"
    elsewhere.mkdir()
    (tmp_path / f"fastcifar-{os.getuid()}").symlink_to(elsewhere)
    found = Path(surroundings._own_folder())
    assert found.is_dir()
    assert found.resolve() != elsewhere


def test_path_variables_know_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    environ = dict.fromkeys(surroundings.PATH_VARIABLES, "~/place") | {"OTHER": "~/x"}
    surroundings.settle_variables(environ)
    assert {environ[name] for name in surroundings.PATH_VARIABLES} == {"/home/ada/place"}
    assert environ["OTHER"] == "~/x"
    environ = {"KERAS_HOME": ""}
    surroundings.settle_variables(environ)
    assert "KERAS_HOME" not in environ


def test_a_notebooks_plots_stay_its_own_in_a_library_but_not_in_our_programs(monkeypatch):
    environ = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    surroundings.settle_variables(environ)
    assert environ["MPLBACKEND"].startswith("module:")
    monkeypatch.setenv("MPLBACKEND", "no-such-backend")
    surroundings.settle_program()
    assert os.environ["MPLBACKEND"] == "agg"


@pytest.mark.parametrize(
    "encoding",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_output_that_is_not_utf8_escapes_what_it_cannot_show(encoding):
    code = (
        "import sys\nfrom fastcifar import cli\nfrom fastcifar.training.progress import Display\n"
        "cli._recipes = lambda rest: Display().line('\\u732b: \\u03b4') or 3\n"
        "sys.exit(cli.main(['recipes']))\n"
    )
    done = python(code, HOME="/", **encoding)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.decode("ascii") == "\\u732b: \\u03b4\n"


def test_what_steers_a_terminal_is_shown_escaped(monkeypatch, capsys):
    from fastcifar import cli
    from fastcifar.training.progress import Display

    Display().line("cat\x1b[31m\nx\udce9 猫")
    assert capsys.readouterr().out == "cat\\x1b[31m\\nx\\udce9 猫\n"
    assert cli.main(["evaluate", "/a\x1b]0;x\x07"]) == 2
    assert capsys.readouterr().err == (
        "fastcifar: error: /a\\x1b]0;x\\x07 is not a run folder: it has no config.json\n"
    )


def test_streams_without_an_encoding_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    surroundings.settle_program()


def test_processes_start_where_the_folder_for_temporary_files_has_a_long_name(tmp_path):
    long = tmp_path / ("t" * 100)
    long.mkdir()
    code = (
        "from fastcifar.data.sources.decode_pool import DecodePool\n"
        "import numpy as np, tempfile\n"
        "if __name__ == '__main__':\n"
        "    chunk = np.zeros(1, np.int64), [np.full((2, 2, 3), 7, np.uint8)]\n"
        "    with DecodePool(2) as pool:\n"
        "        (block,) = pool.blocks([chunk], 2, 'crop')\n"
        "    print(block.images.max(), tempfile.gettempdir())\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = python(
        f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')",
        HOME="/",
        TMPDIR=str(long),
    )
    assert done.stdout.decode() == f"7 {long}\n", done.stderr.decode()
