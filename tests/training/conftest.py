"""A network for whole runs that is traced in a second."""

from unittest import mock

import pytest

from fastcifar.models import resnet


@pytest.fixture(scope="module")
def two_stages():
    """Let the network of depth 14 have the first two of its four stages, in this process."""
    with mock.patch.dict(resnet.BLOCKS, {14: (1, 1)}):
        yield
