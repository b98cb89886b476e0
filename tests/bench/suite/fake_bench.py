"""Stands for a benchmark in a process of its own: fake_bench.py WHAT RECORD."""

import json
import subprocess
import sys
import time
from pathlib import Path


def write(path, *rows, **more):
    row = {"images_per_s": None, "check": "ok", "error": None, "ratios": {}}
    values = {"schema": 1, "kind": "fake", "environment": {"commit": None}, "config": {}}
    values |= {"command": f"fake --out {path}", **more, "rows": [row | r for r in rows]}
    Path(path).write_text(json.dumps(values))


def wait(path):
    """Say that all is done that is going to be, and wait to be ended."""
    Path(path).with_suffix(".waits").touch()
    time.sleep(600)


def main(what, path):
    with Path(path).with_suffix(".calls").open("a") as calls:
        calls.write("x")
    figure = {"name": "a", "step_ms": 1.0}
    if what == "fail":
        sys.exit("ValueError: it broke")
    if what == "empty":
        write(path, {"name": "a"})
    elif what == "row":
        write(path, figure, {"name": "b", "error": "OOM"})
    elif what == "slow":
        write(path, figure)
        wait(path)
    elif what == "stubborn":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        write(path, figure | {"child": child.pid})
        while True:
            try:
                wait(path)
            except KeyboardInterrupt:
                continue
    elif what == "silent":
        wait(path)
    else:
        write(path, figure, config={"data": {"data_path": what}})


if __name__ == "__main__":
    main(*sys.argv[1:])
