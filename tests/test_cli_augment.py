"""`fastcifar augment`: a picture of a policy."""

import pytest
from PIL import Image

from fastcifar.augment import POLICIES
from fastcifar.cli import main

SYNTHETIC = ["--source", "synthetic", "--synthetic-count", "60", "--synthetic-size", "16"]


def test_draws_a_grid(tmp_path, capsys):
    out = tmp_path / "grid.png"
    shape = ["--images", "3", "--draws", "5", "--image-size", "32", "--scale", "1"]
    assert main(["augment", "standard", *SYNTHETIC, *shape, "--out", str(out)]) == 0
    picture = Image.open(out)
    # The original and five draws of 32 px with gaps of 2, the first one wider.
    assert picture.size == (32 + 8 + 5 * 34 + 2, 3 * 34 + 2)
    said = capsys.readouterr().out
    assert "Cutout" in said
    assert str(out) in said


def test_without_a_policy_lists_them(capsys):
    assert main(["augment"]) == 0
    said = capsys.readouterr().out
    for name in POLICIES:
        assert f"{name}: " in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["standrad"], "Did you mean 'standard'?"),
        (["flip", "--draws", "0"], "draws must be 1 or more. Received: 0"),
        (["--draws", "3"], "augment needs a policy"),
        (["flip", "--source", "image_folder"], "--data-path"),
    ],
)
def test_mistakes_cost_one_line(arguments, words, capsys):
    assert main(["augment", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "grid.png"
    assert main(["augment", "flip", *SYNTHETIC, "--out", str(out)]) == 2
    assert "cannot be written" in capsys.readouterr().err
