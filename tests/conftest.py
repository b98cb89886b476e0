"""What every test gets: a quiet TensorFlow, an eye on its time, real images."""

from __future__ import annotations

import gc
import os
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes is the machine's doing.
hypothesis.settings.register_profile(
    "no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no clock")

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # read when TensorFlow is imported, so it is here

REPOSITORY = Path(__file__).resolve().parents[1]
_ARCHIVE = REPOSITORY.parent / "shared/data/cifar10-jpeg.tar.xz"
_REAL_IMAGES_PER_CLASS = {"train": 40, "test": 20}

# A test that is not marked slow should take no longer than this, set-up included. How long it takes
# is as much the machine's doing as the test's: beyond it the summary names the test, and only where
# a limit is asked for, on a machine that has nothing else to do, does it fail.
_SHOULD_S = 20.0
_limit_s = float(os.environ.get("FASTCIFAR_TEST_LIMIT_S", "inf"))
_TOOK_S = "took_s"
_setup_s = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a fast test that passed but took long; fail it where there is a limit."""
    report = yield
    if report.when == "setup":
        item.stash[_setup_s] = report.duration
    elif report.when == "call" and report.passed and item.get_closest_marker("slow") is None:
        total_s = item.stash[_setup_s] + report.duration
        if total_s > _SHOULD_S:
            report.user_properties.append((_TOOK_S, total_s))
        if total_s > _limit_s and not item.config.getoption("usepdb"):
            report.outcome = "failed"
            report.longrepr = (
                f"passed, but took {total_s:.1f} s: a test may take {_limit_s:g} s "
                "(FASTCIFAR_TEST_LIMIT_S) or be marked slow"
            )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the fast tests that took long."""
    for report in terminalreporter.stats.get("passed", []):
        took = dict(report.user_properties).get(_TOOK_S)
        if took is not None:
            terminalreporter.line(
                f"{report.nodeid} took {took:.0f} s: a test that is not marked slow should take "
                f"{_SHOULD_S:g} s at most",
                yellow=True,
            )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Give the process that runs tests two CPU devices to stand for two GPUs.

    Here, because it has to come before anything uses TensorFlow, and because a fixture's time would
    count as the first test's. With xdist the process that hands tests out collects none.
    """
    if not session.items or session.config.option.collectonly:
        return
    import tensorflow as tf

    # What is imported stays: not to be looked through for garbage again and again.
    gc.freeze()
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def real_images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-balanced part of CIFAR-10 (JPEG re-encoded) as train|test/CLASS/NNNN.jpg.

    400 training and 200 test images, 40 and 20 of each of the ten classes. Read-only by agreement:
    all tests share it.
    """
    if not _ARCHIVE.exists():
        pytest.skip("the real images, ../shared/data/cifar10-jpeg.tar.xz, are not there")
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers' common folder
    folder = base / "real-images"
    if not folder.exists():
        # Unpacked apart and renamed: of two workers that start at once one wins, neither waits.
        partial = Path(tempfile.mkdtemp(dir=base))
        _unpack_some(partial)
        try:
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial)
    return folder


def _unpack_some(folder: Path) -> None:
    """Unpack the first images of each class. One pass (2 s): xz has no index to seek by."""
    taken: Counter[str] = Counter()
    with tarfile.open(_ARCHIVE, "r|xz") as archive:
        for member in archive:
            path = Path(member.name)
            class_folder = str(path.parent)
            if not member.isfile() or taken[class_folder] == _REAL_IMAGES_PER_CLASS[path.parts[0]]:
                continue
            taken[class_folder] += 1
            archive.extract(member, folder, filter="data")
