"""Wheels: fetched by their pins, unpacked only where a module is missing."""

import importlib.util
import subprocess
import sys
import zipfile

import pytest

from fastcifar.bench.suite import wheels
from fastcifar.errors import ConfigError, FastcifarError

OWN = f"cp{sys.version_info.major}{sys.version_info.minor}"


def wheel(folder, name, tags="py3-none-any", files=None):
    path = folder / f"{name}-1.0-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in (files or {f"{name}/__init__.py": "here = True"}).items():
            archive.writestr(place, text)
    return path


def unpack(folder, site, present=()):
    return wheels.unpack(folder, site, lambda module: module in present)


def test_what_is_missing_is_unpacked_and_nothing_else(tmp_path):
    site = tmp_path / "site"
    wheel(tmp_path, "absent")
    wheel(tmp_path, "present")
    wheel(tmp_path, "single", files={"single.py": "here = True"})
    wheel(tmp_path, "native", f"{OWN}-{OWN}-manylinux_2_28_x86_64")
    wheel(tmp_path, "stable", "cp39-abi3-manylinux_2_17_x86_64")
    wheel(tmp_path, "foreign", "cp27-cp27m-manylinux1_x86_64")
    assert unpack(tmp_path, site, {"present"}) == ["absent", "native", "single", "stable"]
    assert (site / "absent" / "__init__.py").read_text() == "here = True"
    assert not (site / "present").exists()
    assert not (site / "foreign").exists()


def test_what_lies_apart_in_a_wheel_goes_to_its_place(tmp_path):
    files = {
        "one-1.0.data/purelib/one/__init__.py": "",
        "one-1.0.data/scripts/one": "",
        "one-1.0.dist-info/METADATA": "Version: 1.0",
    }
    wheel(tmp_path, "one", files=files)
    assert unpack(tmp_path, tmp_path / "site") == ["one"]
    found = {str(p.relative_to(tmp_path / "site")) for p in (tmp_path / "site").rglob("*")}
    assert "one/__init__.py" in found
    assert "one-1.0.dist-info/METADATA" in found
    assert not any("scripts" in path for path in found)


def test_unpacked_modules_are_found_behind_the_hosts_own(tmp_path, monkeypatch):
    wheel(tmp_path, "brought_along")
    site = tmp_path / "site"
    assert wheels.unpack(tmp_path, site) == ["brought_along"]
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    importlib.invalidate_caches()
    assert importlib.util.find_spec("brought_along") is not None
    assert wheels.unpack(tmp_path, site) == []  # it is importable now


def test_damaged_and_hostile_wheels_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must hold wheels"):
        unpack(tmp_path, tmp_path / "site")
    path = tmp_path / "broken-1.0-py3-none-any.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(ConfigError, match=r"broken-1\.0.*cannot be unpacked"):
        unpack(tmp_path, tmp_path / "site")
    path.unlink()
    wheel(tmp_path, "bad", files={"bad/__init__.py": "", "../outside.py": ""})
    with pytest.raises(ConfigError, match=r"\.\./outside\.py leads out of the folder"):
        unpack(tmp_path, tmp_path / "site")
    assert not (tmp_path / "outside.py").exists()


def test_every_package_is_pinned():
    found = wheels.pins([*wheels.SMALL, *wheels.PLOTS])
    assert len(found) == len({*wheels.SMALL, *wheels.PLOTS})
    assert all("==" in pin for pin in found)


def test_pip_is_asked_for_the_hosts_python_and_platform(tmp_path):
    asked = []

    def run(command):
        asked.append(command)
        wheel(tmp_path, "tyro")
        return subprocess.CompletedProcess(command, 0, "", "")

    (found,) = wheels.download(tmp_path, run=run)
    assert found.name.startswith("tyro-")
    (command,) = asked
    assert command[command.index("--python-version") + 1] == "3.12"
    assert "manylinux_2_28_x86_64" in command
    assert any(word.startswith("rich==") for word in command)
    assert not any(word.startswith("matplotlib==") for word in command)
    wheels.download(tmp_path, plots=True, run=run)
    assert any(word.startswith("matplotlib==") for word in asked[1])


def test_a_pip_that_fails_says_why_in_a_line(tmp_path):
    def run(command):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: no distribution")

    with pytest.raises(FastcifarError, match="cannot fetch the wheels: ERROR: no distribution"):
        wheels.download(tmp_path, run=run)
