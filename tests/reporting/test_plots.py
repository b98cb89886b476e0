"""Plots show what the run folder says, and show what they can of a run that is not finished."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from fastcifar import recipes
from fastcifar.errors import RunDirError
from fastcifar.reporting import curves, pictures, style
from fastcifar.reporting.plots import figures, write_plots
from fastcifar.rundir import RunDir

CLASSES = ("apple", "pear", "plum")
CONFUSION = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])  # no plum in the test split


def epochs(count: int, phases: tuple[str | int, ...] = ("train",), validation: bool = True) -> list:
    """Records as in metrics.jsonl; the phases share the epochs evenly."""
    return [
        {
            "epoch": i + 1,
            "phase": phases[i * len(phases) // count],
            "loss": 2.0 / (i + 1),
            "accuracy": 1 - 0.8 / (i + 1),
            "validation_loss": 2.2 / (i + 1) if validation else None,
            "validation_accuracy": 1 - 0.9 / (i + 1) if validation else None,
            "learning_rate": 0.1 / (i + 1),
        }
        for i in range(count)
    ]


def make_run(folder: Path, records: list, finished: bool = True) -> Path:
    run = RunDir.create(folder, recipes.get("quickstart"), environment={})
    run.write_metrics(records)
    if finished:
        run.write_summary(
            {
                "test_accuracy": 0.7,
                "test_loss": 0.9,
                "class_names": CLASSES,
                "confusion_matrix": CONFUSION.tolist(),
            }
        )
        labels = np.arange(30) % 3
        images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
        run.write_samples(images=images, labels=labels, predictions=labels // 2)
    return folder


def lines(figure: Figure) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The labelled lines of the first axes: label -> (x, y)."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in figure.axes[0].get_lines()
        if not str(line.get_label()).startswith("_")
    }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("count", [1, 6])
def test_writes_every_plot_of_a_finished_run(tmp_path, count):
    written = write_plots(make_run(tmp_path / "run", epochs(count)))

    names = ["loss", "accuracy", "learning_rate", "samples", "confusion_matrix"]
    assert written == [tmp_path / "run" / "plots" / f"{name}.png" for name in names]
    for path in written:
        with Image.open(path) as image:
            image.load()  # decodes all of it: a truncated file raises
            assert image.format == "PNG"
            assert 600 <= image.width <= 2000
            assert 500 <= image.height <= 2000
    assert set(written[0].parent.iterdir()) == set(written), "nothing half-written is left"


def test_the_same_run_gives_the_same_bytes(tmp_path):
    run = make_run(tmp_path / "run", epochs(2))
    first = [path.read_bytes() for path in write_plots(run)]
    assert [path.read_bytes() for path in write_plots(run)] == first


def test_an_unfinished_run_gives_the_plots_it_can(tmp_path):
    written = write_plots(make_run(tmp_path / "run", epochs(2), finished=False))
    assert [path.stem for path in written] == ["loss", "accuracy", "learning_rate"]


def test_a_run_without_samples_gives_the_others(tmp_path):
    run = RunDir(make_run(tmp_path / "run", epochs(2)))
    run.samples_path.unlink()
    names = ["loss", "accuracy", "learning_rate", "confusion_matrix"]
    assert [path.stem for path in write_plots(run.path)] == names


def test_a_run_without_an_epoch_gives_none(tmp_path):
    assert write_plots(make_run(tmp_path / "run", [], finished=False)) == []


def test_refuses_what_is_no_run_folder(tmp_path):
    with pytest.raises(RunDirError, match="is not a run folder"):
        write_plots(tmp_path)


def test_loss_and_accuracy_lines_are_the_records():
    records = epochs(4)
    for figure, name in (
        (curves.loss_figure(records, "t", 0.9), "loss"),
        (curves.accuracy_figure(records, "t", 0.9), "accuracy"),
    ):
        drawn = lines(figure)
        for label, key in (("training", name), ("validation", f"validation_{name}")):
            x, y = drawn[label]
            assert_array_equal(x, [1, 2, 3, 4])
            assert_allclose(y, [record[key] for record in records])
        assert_array_equal(drawn["test"], ([4], [0.9]))


def test_titles_name_the_recipe(tmp_path):
    figure = curves.loss_figure(epochs(1), "quickstart: loss")
    assert figure.get_suptitle() == "quickstart: loss"


def test_end_values_are_written_beside_the_lines():
    figure = curves.accuracy_figure(epochs(4), "t", 0.7)
    assert set(texts(figure)) == {"training 80.0%", "validation 77.5%", "test 70.0%"}


@pytest.mark.parametrize("last", [0.9, 0.5, 0.1], ids=["top", "middle", "bottom"])
def test_labels_of_equal_values_neither_overlap_nor_leave_the_axes(last):
    records = epochs(3)
    for record, value in zip(records, (0.9, 0.1, last), strict=True):
        record["accuracy"] = record["validation_accuracy"] = value
    figure = curves.accuracy_figure(records, "t", last)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 3
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    frame = figure.axes[0].get_window_extent()
    middles = [(box.y0 + box.y1) / 2 for box in boxes]
    assert frame.y0 <= min(middles) <= max(middles) <= frame.y1 + 1


@pytest.mark.parametrize("absent", [False, True], ids=["null", "absent"])
def test_without_a_validation_split_only_training_is_drawn(absent):
    records = epochs(3, validation=False)
    if absent:
        for record in records:
            del record["validation_loss"]
    assert set(lines(curves.loss_figure(records, "t"))) == {"training"}


def test_a_loss_that_was_not_finite_leaves_a_gap():
    records = epochs(3)
    records[2]["loss"] = None
    figure = curves.loss_figure(records, "t")
    assert_allclose(lines(figure)["training"][1], [2.0, 1.0, np.nan])
    assert "training 1.000" in texts(figure)


def test_the_learning_rate_of_every_step_is_drawn(tmp_path):
    """Three steps an epoch: a warm-up of one epoch, then half a cosine over two."""
    config = recipes.get("quickstart")
    phase = dataclasses.replace(
        config.phases[0], epochs=3, warmup_epochs=1.0, schedule="cosine", learning_rate=0.3
    )
    run = RunDir.create(tmp_path, dataclasses.replace(config, phases=(phase,)), environment={})
    run.write_metrics([epoch | {"step": 3 * epoch["epoch"]} for epoch in epochs(3)])
    (line,) = figures(run)["learning_rate"]().axes[0].get_lines()
    falling = [0.15 * (1 + np.cos(np.pi * i / 6)) for i in range(6)]
    assert_allclose(line.get_ydata(), [0.1, 0.2, 0.3, *falling], rtol=1e-6)
    assert_allclose(line.get_xdata(), 0.5 + (np.arange(9) + 0.5) / 3)


def test_where_no_steps_were_recorded_the_rate_is_a_point_for_each_epoch():
    (line,) = curves.learning_rate_figure(epochs(2), "t").axes[0].get_lines()
    assert line.get_linestyle() == "None"
    assert_allclose(line.get_xydata(), [(1.5, 0.1), (2.5, 0.05)])


def test_what_is_no_plain_cross_entropy_is_named_the_objective():
    smoothed = {"objective": "cross-entropy with label smoothing 0.1"}
    plain = {"objective": "cross-entropy"}
    drawn = lines(curves.loss_figure([epoch | smoothed for epoch in epochs(2)], "t"))
    assert set(drawn) == {"training objective", "validation"}
    drawn = lines(curves.loss_figure([epoch | plain for epoch in epochs(2)], "t"))
    assert set(drawn) == {"training", "validation"}


@pytest.mark.parametrize("draw", [curves.loss_figure, curves.learning_rate_figure])
def test_phases_are_marked_where_there_are_several(draw):
    figure = draw(epochs(6, phases=("head", "all", 3)), "t")
    boundaries = [
        line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_linestyle() == "-."
    ]
    assert boundaries == [2.5, 4.5]
    assert [text for text in texts(figure) if text in ("head", "all", "phase 3")] == [
        "head",
        "all",
        "phase 3",
    ]


@pytest.mark.parametrize("draw", [curves.loss_figure, curves.learning_rate_figure])
def test_one_phase_is_not_marked(draw):
    figure = draw(epochs(6), "t")
    assert not [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-."]
    assert "train" not in texts(figure)


def test_samples_mark_the_wrong_ones_without_colour_too():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    images[1] = 255
    figure = pictures.samples_figure(images, np.array([0, 1, 2]), np.array([0, 2, 2]), CLASSES, "t")
    right, wrong, _ = figure.axes
    assert right.get_title(loc="left") == "✓ apple"
    assert wrong.get_title(loc="left") == "✗ plum\nis pear"
    assert [axes.spines["left"].get_visible() for axes in (right, wrong)] == [False, True]
    assert_array_equal(wrong.get_images()[0].get_array(), images[1])


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (7, 7), (25, 25), (40, 25)])
def test_samples_show_at_most_25_images(count, shown):
    zeros = np.zeros(count, np.int64)
    figure = pictures.samples_figure(np.zeros((count, 4, 4, 3), np.uint8), zeros, zeros, "a", "t")
    assert sum(bool(axes.get_images()) for axes in figure.axes) == shown


def test_confusion_matrix_shows_shares_and_counts():
    figure = pictures.confusion_figure(CONFUSION, CLASSES, "t")
    shares = figure.axes[0].get_images()[0].get_array()
    assert_allclose(
        np.ma.filled(shares, np.nan), [[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 0.0]]
    )
    assert [text.get_text() for text in figure.axes[0].texts] == list("820190000")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(CLASSES)


def test_confusion_matrix_of_many_classes_leaves_out_what_cannot_be_read():
    figure = pictures.confusion_figure(np.eye(100, dtype=np.int64), ["name"] * 100, "t")
    assert not figure.axes[0].texts
    assert "name" not in [label.get_text() for label in figure.axes[0].get_xticklabels()]


def test_long_class_names_are_shortened():
    figure = pictures.confusion_figure(CONFUSION, ["a" * 40, "b", "c"], "t")
    assert figure.axes[0].get_xticklabels()[0].get_text() == "a" * 13 + "…"


NAMES = (r"$\frac$", "猫", "a_b^c${", "\x1b[31mred", "caf\udce9")


def test_names_are_drawn_as_they_stand(tmp_path, monkeypatch):
    """No mathematics, no LaTeX of a user's matplotlibrc, no control character, no missing sign."""
    kept = ("DejaVu", "Last Resort")
    own = [f for f in style.font_manager.fontManager.ttflist if f.name.startswith(kept)]
    monkeypatch.setattr(style.font_manager.fontManager, "ttflist", own)
    run = RunDir(make_run(tmp_path / "run", epochs(2, phases=("$\\sum$", "b"))))
    count = len(NAMES)
    confusion = np.eye(count, dtype=np.int64).tolist()
    run.write_summary({"class_names": NAMES, "confusion_matrix": confusion})
    with matplotlib.rc_context({"text.usetex": True}), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(write_plots(run.path)) == 5
    figure = pictures.confusion_figure(np.eye(count, dtype=np.int64), NAMES, "$\\frac$: t")
    shown = [r"$\frac$", r"\u732b", "a_b^c${", r"\x1b[31mred", r"caf\udce9"]
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == shown
    assert not any(label.get_parse_math() for label in labels)


def test_a_sign_that_another_font_has_is_drawn_with_it(monkeypatch):
    class Chinese:
        def get_charmap(self):
            return {ord("猫"): 1}

    get_font = style.font_manager.get_font
    fonts = style.font_manager.fontManager.ttflist
    hei = SimpleNamespace(name="Some Hei", fname="hei.ttf", style="normal", weight=400)
    monkeypatch.setattr(style.font_manager.fontManager, "ttflist", [*fonts, hei])
    monkeypatch.setattr(
        style.font_manager,
        "get_font",
        lambda path: Chinese() if path == "hei.ttf" else get_font(path),
    )
    names, lettering = style.as_they_stand(["cat", "猫狗"])
    assert names == ["cat", r"猫\u72d7"]
    assert lettering["fontfamily"] == ["DejaVu Sans", "Some Hei"]


def test_a_plot_that_fails_is_a_warning_and_the_others_are_drawn(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no\nsuch thing")

    monkeypatch.setattr(pictures, "confusion_figure", fail)
    run = make_run(tmp_path / "run", epochs(2))
    said = []
    assert len(write_plots(run, warn=said.append)) == 4
    picture = run / "plots" / "confusion_matrix.png"
    assert said == [f"warning: {picture} is not drawn: ValueError: no such thing"]
    with pytest.raises(ValueError, match="such thing"):
        write_plots(run)


def test_imports_neither_tensorflow_nor_pyplot():
    code = (
        "import sys, fastcifar.reporting.plots; "
        "print({'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
