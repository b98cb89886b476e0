"""A dumped step is read, fed back and recorded; JAX itself is a fake here."""

import json
import lzma
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastcifar.bench import commands, process_commands, run_hlo
from fastcifar.bench.run_hlo import Program
from fastcifar.errors import ConfigError
from tests.bench.handles import Local

# Output 0: the metrics; output 1 is parameter 3, the only variable; parameter 2: learning rates.
HLO = """\
HloModule a, input_output_alias={ {1}: (3, {}, may-alias) }, entry_computation_layout={(\
u8[4,2,2,3]{3,2,1,0}, s64[4]{0}, f32[9]{0}, /*index=3*/f32[5]{0})->(f32[4]{0}, f32[5]{0})}

ENTRY a { }
"""


class Executable:
    """Counts in its variable; the metrics are the batch's first label and that count."""

    def __init__(self, loss=0.5):
        self.loss = loss
        self.given = []

    def execute(self, values):
        self.given.append(values[3])
        return [np.array([self.loss, 0, 4, 0]), values[3] + 1]

    def get_compiled_memory_stats(self):
        return SimpleNamespace(temp_size_in_bytes=7, argument_size_in_bytes=11)


@pytest.fixture
def jax(monkeypatch):
    device = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200")
    module = SimpleNamespace(
        __version__="0.0",
        config=SimpleNamespace(update=lambda *_: None),
        devices=lambda: [device],
        device_put=lambda value, device: value,
        block_until_ready=lambda value: value,
    )
    monkeypatch.setitem(sys.modules, "jax", module)
    monkeypatch.setattr(run_hlo, "_PIECE_S", 0.001)
    return module


def written(path, text=HLO):
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.hlo", "a.hlo.xz"])
def test_what_a_file_says(tmp_path, name):
    program = Program.read(written(tmp_path / name))
    assert program.images == 4
    assert program.parameters[0] == ("uint8", (4, 2, 2, 3))
    assert program.fed_back == ((1, 3),)
    images, labels, rates, variable = program.draw()
    assert images.std() > 0
    assert labels.tolist() == [0, 1, 2, 3]
    assert not rates.any()  # the weights stay as they are
    assert abs(variable.mean() - 1) < 0.2


@pytest.mark.parametrize("text", ["", "HloModule a\n", HLO.replace("f32[9]", "token[9]")])
def test_another_file_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="must be a file of fastcifar bench step --dump-hlo"):
        Program.read(written(tmp_path / "a.hlo", text))


def test_variables_are_fed_back(tmp_path, jax, monkeypatch):
    made = Executable()
    monkeypatch.setattr(run_hlo, "_compile", lambda text, device: made)
    runner = run_hlo.Runner(Program.read(written(tmp_path / "a.hlo")))
    first = runner.program.draw()[3]
    runner.steps = 3
    assert runner.run() == 12
    assert np.allclose(made.given, [first, first + 1, first + 2])


def test_the_record_says_what_it_is_of(tmp_path, jax, monkeypatch, capsys):
    made = iter([Executable(), Executable(loss=np.nan)])
    monkeypatch.setattr(run_hlo, "_compile", lambda text, device: next(made))
    paths = [str(written(tmp_path / name)) for name in ("good.hlo", "bad.hlo")]
    out = tmp_path / "r.json"
    assert run_hlo.main([*paths, "--out", str(out), "--seconds", "0.01"]) == 1
    values = json.loads(out.read_text())
    good, bad = values["rows"]
    assert "no input, no loop" in values["config"]["what"]
    assert set(values["config"]["sha256"]) == {"good.hlo", "bad.hlo"}
    assert values["environment"]["gpus"] == ["NVIDIA H200"]
    assert good["images_per_s"]["n"] >= 2
    assert (good["global_batch_size"], good["temporary_bytes"]) == (4, 7)
    assert good["step_ms"] > 0
    assert bad["check"].startswith("failed: the loss must be finite")
    assert "bad.hlo: failed" in capsys.readouterr().out


def dumped(tmp_path, monkeypatch, *flags):
    monkeypatch.setattr(process_commands.row_process, "start", Local)
    arguments = ["quickstart", "--synthetic-count", "64", "--synthetic-size", "8"]
    arguments += ["--image-size", "8", "--global-batch-size", "8", "--augment", "standard"]
    return commands.run(["step", *arguments, *flags, "--dump-hlo", str(tmp_path / "a.hlo.xz")])


@pytest.mark.usefixtures("tiny_network")
def test_the_real_step_is_written(tmp_path, monkeypatch, capsys):
    assert dumped(tmp_path, monkeypatch) == 0
    (path,) = tmp_path.iterdir()  # this network has no pooling to compare
    assert str(path) in capsys.readouterr().out
    program = Program.read(path)
    assert program.images == 8
    # Kernels, scales, shifts, moving statistics, the optimizer's: all come back.
    assert len(program.fed_back) >= 7
    assert "metadata" not in program.text


@pytest.mark.slow
def test_both_gradients_of_max_pooling_are_written(tmp_path, monkeypatch):
    network = ["--depth", "14", "--width", "4", "--stem", "imagenet", "--image-size", "32"]
    assert dumped(tmp_path, monkeypatch, *network) == 0
    ours, theirs = (Program.read(tmp_path / f"{name}.hlo.xz").text for name in ("a", "a-scatter"))
    assert "select-and-scatter" not in ours
    assert "select-and-scatter" in theirs


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cache", "device"], "not from --cache device"),
        (["--augment", "keras-cv"], "Received: keras-cv"),
        (["--seconds", "3"], "dump-hlo measures nothing"),
    ],
)
@pytest.mark.usefixtures("tiny_network")
def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch, flags, said):
    with pytest.raises(Exception, match=said) as caught:
        dumped(tmp_path, monkeypatch, *flags)
    assert "\n" not in str(caught.value)
