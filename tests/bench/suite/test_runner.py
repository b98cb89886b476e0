"""Parts are bounded, resumed, and do not take each other down."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastcifar.bench.suite import runner
from fastcifar.bench.suite.parts import RECORD, Part, Task
from fastcifar.bench.suite.runner import Runner
from fastcifar.bench.suite.state import COMPLETE, ENDED, FAILED, RUNNING, Outcome, State
from fastcifar.errors import ConfigError
from tests.bench.handles import Clock

FAKES = Path(__file__).parent


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Parts that end at once take no time; one that goes on for ever takes what it is given."""
    clock = Clock()

    class Process(subprocess.Popen):
        def __init__(self, command, **options):
            self.waits = Path(command[-1]).with_suffix(".waits")
            self.waits.unlink(missing_ok=True)
            self.asked = False
            super().__init__(command, **options)

        def wait(self, timeout=None):
            if timeout is None or self.asked:
                return super().wait(timeout)
            self.asked = True
            while self.poll() is None:
                if self.waits.exists():
                    clock.work(timeout)
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.01)
            return self.returncode

    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(subprocess, "Popen", Process)
    return Suite(tmp_path / "out")


class Suite:
    """A folder, and calls of the runner on fake parts in it."""

    def __init__(self, out):
        self.out = out
        self.said = []

    def run(self, *parts, data=None, commit=None, minutes=None, force=False):
        self.said = []
        self.state = State(self.out, {})
        runner = Runner(
            self.out,
            self.state,
            data=data,
            commit=commit,
            variables={"PYTHONPATH": str(FAKES)},
            grace_s=0.3,
            least_s=0.5,
            say=lambda line: self.said.append(re.sub(r"after \d+ s", "after a while", line)),
        )
        return runner.run(parts, minutes=minutes, force=force)

    def calls(self, record):
        path = self.out / f"{record}.calls"
        return len(path.read_text()) if path.exists() else 0

    def record(self, name):
        return json.loads((self.out / f"{name}.json").read_text())


def part(what, *, name="part", minutes=1.0, record="r", **task):
    return Part(name, minutes, "", (Task(record, (("fake_bench", what, RECORD),), **task),))


def test_a_part_that_is_done_is_skipped_unless_forced(suite):
    assert suite.run(part("ok"))
    assert suite.said == ["part: r: complete after a while"]
    assert suite.run(part("ok"))
    assert suite.said == ["part: r: done before, complete"]
    assert suite.calls("r") == 1
    assert suite.run(part("ok"), force=True)
    assert suite.calls("r") == 2


def test_a_record_that_has_gone_is_made_again(suite):
    suite.run(part("ok"))
    (suite.out / "r.json").unlink()
    suite.run(part("ok"))
    assert suite.calls("r") == 2


def test_a_part_that_fails_is_a_line_and_the_others_go_on(suite):
    assert not suite.run(part("fail", record="a"), part("ok", record="b"))
    assert suite.said == [
        "part: a: failed after a while; ValueError: it broke (exit status 1; log/a.log)",
        "part: b: complete after a while",
    ]
    assert suite.state.outcomes["a"].state == FAILED
    assert "it broke" in (suite.out / "log" / "a.log").read_text()
    assert not suite.run(part("fail", record="a"), part("ok", record="b"))
    assert (suite.calls("a"), suite.calls("b")) == (2, 1)


def test_a_benchmark_with_a_failed_row_is_complete_and_says_so(suite):
    assert not suite.run(part("row"))
    assert suite.state.outcomes["r"].state == COMPLETE
    assert suite.said[0].endswith("; failed rows: b")
    assert not suite.run(part("row"))  # still not in order, and not measured again
    assert suite.calls("r") == 1


def test_a_record_without_a_figure_is_a_failure(suite):
    assert not suite.run(part("empty"))
    assert suite.said[0].endswith("it left no figure")


def test_a_part_whose_time_is_over_is_ended_and_keeps_what_it_recorded(suite):
    assert not suite.run(part("slow", minutes=0.04, record="a"), part("ok", record="b"))
    assert suite.state.outcomes["a"].state == ENDED
    assert suite.record("a")["rows"][0]["step_ms"] == 1.0
    assert suite.state.outcomes["b"].state == COMPLETE
    suite.run(part("slow", minutes=0.04, record="a"))
    assert suite.calls("a") == 1


def test_one_that_recorded_nothing_by_then_is_tried_again(suite):
    assert not suite.run(part("silent", minutes=0.04))
    assert suite.state.outcomes["r"].why == "its time is over before the first figure"
    suite.run(part("ok"))
    assert suite.calls("r") == 2


def test_what_a_part_started_ends_with_it_whatever_it_thinks_of_that(suite):
    suite.run(part("stubborn", minutes=0.04))
    child = suite.record("r")["rows"][0]["child"]
    for _ in range(50):  # it is init that reaps it
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_what_was_interrupted_starts_again(suite):
    suite.run(part("ok"))
    suite.state.put("r", Outcome(RUNNING))
    suite.run(part("ok"))
    assert suite.calls("r") == 2
    assert suite.said == ["part: r: complete after a while"]


def test_a_part_that_does_not_fit_into_the_call_waits_for_the_next(suite):
    parts = [part("ok", record=record, name=record, minutes=0.1) for record in "abc"]
    large = part("ok", record="large", name="large", minutes=5)
    assert suite.run(parts[0], large, parts[1], minutes=0.2)
    assert suite.said == [
        "a: a: complete after a while",
        "large: waits for the next call, as what follows; it may take 5 minutes",
    ]
    # There it is the first, and what is done does not count.
    suite.run(parts[0], large, parts[1], minutes=0.2)
    assert suite.said[1:] == [
        "large: large: complete after a while",
        "b: b: complete after a while",
    ]


def test_what_a_call_has_ended_starts_again(suite):
    assert not suite.run(part("slow"), minutes=0.04)
    assert suite.state.outcomes["r"].state == RUNNING  # it had no fault
    assert "the time of the call was over: it starts again" in suite.said[0]
    assert suite.run(part("ok"))
    assert suite.calls("r") == 2


def test_a_task_begins_in_an_empty_folder(suite):
    suite.run(part("ok"))
    work = suite.out / "work" / "r"
    (work / "run").mkdir()
    suite.run(part("ok"), force=True)
    assert list(work.iterdir()) == []


def test_a_task_for_which_the_part_has_no_time_left_waits(suite):
    slow, ok = part("slow", record="a").tasks[0], part("ok", record="b").tasks[0]
    suite.run(Part("part", 0.04, "", (slow, ok)))
    assert suite.said[1] == "part: b: waits for the next call, the time of the part is over"
    suite.run(Part("part", 0.1, "", (slow, ok)))
    assert suite.state.outcomes["b"].state == COMPLETE


def test_what_needs_images_is_left_out_without_them(suite, tmp_path):
    assert suite.run(part("ok", needs_data=True))
    assert suite.said == ["part: r: left out, it needs --data DIR"]
    assert suite.run(part("ok", needs_data=True), data=tmp_path)
    assert suite.calls("r") == 1


def test_records_name_no_folder_of_this_machine(suite, tmp_path):
    data = tmp_path / "images"
    suite.run(part(str(data)), data=data, commit="abc")
    found = suite.record("r")
    assert found["config"]["data"]["data_path"] == "DIR"
    assert found["command"] == "fake --out benchmarks/results/r.json"
    assert found["environment"]["commit"] == "abc"
    assert str(tmp_path) not in json.dumps(found)


def test_a_folder_of_another_setting_is_refused(tmp_path):
    State(tmp_path, {"small": True})
    with pytest.raises(ConfigError, match=r"holds records measured with \{'small': True\}"):
        State(tmp_path, {"small": False})


@pytest.mark.parametrize("text", ["{", "[]", '{"setting": {}}', '{"setting": {}, "tasks": [1]}'])
def test_a_state_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "suite.json").write_text(text)
    with pytest.raises(ConfigError, match="must be what this suite wrote"):
        State(tmp_path, {})
