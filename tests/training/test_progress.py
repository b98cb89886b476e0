"""What a person sees: plain lines in a file or a pipe, a bar on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from fastcifar.training.progress import Display, epoch_line

ENTRY = {
    "epoch": 3,
    "phase": "train",
    "loss": 1.23456,
    "accuracy": 0.5,
    "validation_loss": 1.5,
    "validation_accuracy": 0.45678,
    "learning_rate": 0.1,
    "images_per_s": 12345.6,
    "train_s": 4.0,
    "paused_s": 1.0,
}


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    """Call it in a test (pytest sets stdout anew after the fixtures): a terminal as stdout."""

    def opened():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "stdout", Terminal())
        return sys.stdout

    return opened


def show_everything(display):
    display.line("a note")
    display.count("reading images", 1, 2)
    display.count("reading images", 2, 2)
    display.epoch("epoch 1/2", 10, 4)
    display.step(3, loss=1.5, accuracy=0.25, images_per_s=1234.5)
    display.line("in between")
    display.close()
    display.line("the end")


@pytest.mark.parametrize("forced", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_into_a_pipe_go_plain_lines_only(forced, monkeypatch, capsys):
    for name, value in forced.items():
        monkeypatch.setenv(name, value)
    show_everything(Display())
    shown = capsys.readouterr()
    assert shown.out == "a note\nin between\nthe end\n"
    assert shown.err == ""


@pytest.mark.parametrize(
    "text",
    [
        "runs/[bold]x[/bold]/summary.json",
        "runs/:fire:/summary.json",
        "127.0.0.1 'text' 3.14 True",
        "x" * 500,
        "many words " * 50,
        "[/]",
    ],
)
def test_a_line_is_shown_as_it_stands(text, capsys):
    Display().line(text)
    assert capsys.readouterr().out == text + "\n"


def test_on_a_terminal_there_is_a_bar(open_terminal):
    terminal = open_terminal()
    show_everything(Display())
    shown = terminal.getvalue()
    for part in ("reading images", "epoch 1/2", "10", "objective 1.5000  accuracy 0.2500"):
        assert part in shown
    assert "\x1b[" in shown
    for line in ("a note", "in between", "the end"):
        assert f"{line}\n" in shown.replace("\r", "")


def test_a_bar_counts_what_was_done_before(open_terminal):
    terminal = open_terminal()
    display = Display()
    display.epoch("epoch 2/2", 10, 4)
    display.step(3, loss=1.5, accuracy=0.25, images_per_s=0.0)
    display.close()
    assert "7/10" in terminal.getvalue()


def test_a_bar_that_is_full_goes_away(open_terminal):
    open_terminal()
    display = Display()
    display.count("reading", 1, 2)
    assert display._bar is not None
    display.count("reading", 2, 2)
    assert display._bar is None


def test_steps_without_a_bar_and_closing_twice_are_harmless(capsys):
    display = Display()
    display.step(1, loss=1.0, accuracy=0.5, images_per_s=1.0)
    display.close()
    display.close()
    assert capsys.readouterr().out == ""


def test_quiet_shows_nothing_anywhere(open_terminal):
    terminal = open_terminal()
    show_everything(Display(quiet=True))
    assert terminal.getvalue() == ""


def test_the_line_of_an_epoch():
    assert epoch_line(ENTRY, 10) == (
        "epoch 3/10  objective 1.2346  accuracy 0.5000  "
        "validation loss 1.5000  validation accuracy 0.4568  12,346 images/s"
    )


def test_the_line_of_an_epoch_without_validation():
    entry = ENTRY | {"validation_loss": None, "validation_accuracy": None}
    assert epoch_line(entry, 10) == "epoch 3/10  objective 1.2346  accuracy 0.5000  12,346 images/s"


def test_the_line_of_an_epoch_without_a_rate():
    """One call was the whole epoch, and it compiled: no time was measured."""
    entry = ENTRY | {"validation_accuracy": None, "images_per_s": None}
    assert epoch_line(entry, 10) == "epoch 3/10  objective 1.2346  accuracy 0.5000"
