"""The stand-in driver, built once for all rehearsals."""

from pathlib import Path

import pytest

from tests.rehearsal import stand_in


@pytest.fixture(scope="session")
def stand_in_gpus(tmp_path_factory) -> Path:
    """The folder of the stand-in driver's libraries; skips with a reason where it cannot be."""
    reason = stand_in.missing()
    if reason is not None:
        pytest.skip(reason)
    return stand_in.build(tmp_path_factory.mktemp("stand-in-gpus"))
