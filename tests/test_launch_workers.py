"""scripts/launch_workers: places, numbered output, signals, and the end of all when one fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "launch_workers"
INDEX = "import json, os; index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"


def launch(count, program, **arguments):
    command = [sys.executable, str(SCRIPT), str(count), sys.executable, "-c", INDEX + program]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **arguments
    )


def test_every_worker_has_its_place_and_its_number():
    done = launch(3, "print(os.environ['TF_CONFIG'])")
    out, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (0, "")
    lines = sorted(out.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[1] ", "[2] "]
    places = [json.loads(line[4:]) for line in lines]
    addresses = places[0]["cluster"]["worker"]
    assert len(set(addresses)) == 3
    for index, place in enumerate(places):
        assert place["cluster"]["worker"] == addresses
        assert place["task"] == {"type": "worker", "index": index}


def test_errors_stay_on_stderr_and_the_status_is_the_failed_workers():
    done = launch(2, "import sys; print('why', file=sys.stderr); sys.exit(3 * index)")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 3
    assert out == ""
    assert {"[0] why", "[1] why"} <= set(err.splitlines())


def test_when_one_fails_the_others_are_ended():
    program = (
        "import signal, sys, time\n"
        "def end(*_): print('asked to end', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "if index == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(600)\n"
    )
    done = launch(2, program)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 128 + signal.SIGKILL
    assert err == "launch_workers: worker 1 was ended by SIGKILL; ending the others\n"
    assert "[0] asked to end" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_every_worker_once(number):
    program = (
        "import signal, time\n"
        "got = []\n"
        "for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, lambda n, _: got.append(n))\n"
        "print('ready', flush=True)\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "print(*got, flush=True)\n"
    )
    done = launch(2, program, start_new_session=True)
    try:
        assert {done.stdout.readline(), done.stdout.readline()} == {"[0] ready\n", "[1] ready\n"}
        os.killpg(done.pid, number)  # as a terminal does: the whole foreground group
        out, _ = done.communicate(timeout=120)
    finally:
        done.kill()
    assert sorted(out.splitlines()) == [f"[0] {int(number)}", f"[1] {int(number)}"]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "launch_workers: give the number of workers, 1 or more, and their command"),
        (["two", "echo"], "launch_workers: give the number of workers"),
        (["0", "echo"], "launch_workers: give the number of workers"),
        (["2"], "launch_workers: give the number of workers"),
        (["2", "/no/such/command"], "/no/such/command cannot be started: No such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
