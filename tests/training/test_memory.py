"""Host memory does not grow from epoch to epoch."""

import psutil
import pytest

from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.small_run import small


class Watch(Display):
    """Notes the process's memory at the end of each epoch."""

    def __init__(self):
        super().__init__(quiet=True)
        self.bytes = []

    def line(self, text):
        if text.startswith("epoch "):
            self.bytes.append(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_no_growth_over_epochs(tmp_path):
    watch = Watch()
    train(small(phase={"epochs": 24}, checkpoint_every=24), str(tmp_path / "run"), display=watch)
    assert len(watch.bytes) == 24
    # The first epochs fill TensorFlow's pools. A copy of the weights kept each time would be seen.
    assert watch.bytes[-1] - watch.bytes[7] < 16e6
