"""The smallest recipe of the real code: what benchmarks measure in tests."""

import dataclasses

from fastcifar.config import DataConfig, ModelConfig, PhaseConfig, RunConfig, RuntimeConfig
from fastcifar.training.preparation import prepare
from fastcifar.training.progress import Display

BATCH = 8
CONFIG = RunConfig(
    global_batch_size=BATCH,
    data=DataConfig(source="synthetic", synthetic_count=64, synthetic_size=8, parallel_map=1),
    model=ModelConfig(depth=14, width=2, stem="cifar"),
    runtime=RuntimeConfig(precision="float32"),
    phases=(PhaseConfig(image_size=8, learning_rate=0.01, augment="none"),),
)


def prepared(config=CONFIG, **phase):
    """(config, its parts), with fields of its phase replaced."""
    phases = tuple(dataclasses.replace(p, **phase) for p in config.phases)
    config = dataclasses.replace(config, phases=phases)
    return config, prepare(config, Display(quiet=True))


class Rows(dict):
    """Takes rows as a record does."""

    environment = None

    def __call__(self, *rows, environment=None):
        self.environment = environment or self.environment
        self.update({row.name: row for row in rows})
