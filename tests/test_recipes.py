"""The named configurations are what their names promise."""

from __future__ import annotations

import dataclasses

import pytest

from fastcifar import recipes
from fastcifar.augment import policies
from fastcifar.errors import ConfigError

NAMES = ", ".join(recipes.names())


def test_the_recipes():
    assert recipes.names() == (
        *("quickstart", "cifar10-scratch", "cifar10-32px", "cifar10-finetune"),
        *("upsample-rmsprop", "freeze-then-finetune", "frozen-backbone"),
    )


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_knows_its_name_and_is_described_in_one_line(name):
    assert recipes.get(name).recipe == name
    description = recipes.describe(name)
    assert description
    assert "\n" not in description
    assert len(name) + len(description) < 110


def test_quickstart_needs_no_download_and_no_gpu():
    config = recipes.get("quickstart")
    assert config.data.source == "synthetic"
    assert config.runtime.precision == config.runtime.xla == "auto"


def test_scratch_has_the_cifar_stem():
    config = recipes.get("cifar10-scratch")
    assert (config.model.depth, config.model.stem) == (50, "cifar")
    assert config.data.dataset == "cifar10"


def test_scratch_is_what_fast_trainings_publish():
    config = recipes.get("cifar10-scratch")
    (phase,) = config.phases
    assert (config.global_batch_size, phase.learning_rate, phase.schedule) == (
        *(512, 0.4),
        "one_cycle",
    )
    optimizer = config.optimizer
    assert (optimizer.optimizer, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 5e-4)
    assert optimizer.label_smoothing == 0.2
    assert optimizer.ema**5 == pytest.approx(0.99, abs=1e-4)
    kinds = [type(operation).__name__ for operation in policies.get(phase.augment).operations]
    assert kinds == ["AlternatingFlip", "PadCrop", "Cutout"]
    assert config.test_time_augmentation == "flip"


def test_32px_is_the_published_network():
    config = recipes.get("cifar10-32px")
    assert (config.model.depth, config.model.width, config.model.stem) == (50, 64, "imagenet")
    assert [phase.image_size for phase in config.phases] == [32]
    assert config.optimizer.optimizer == "adamw"


@pytest.mark.parametrize("ask", [recipes.get, recipes.describe])
def test_an_unknown_recipe_is_refused_with_the_nearest(ask):
    with pytest.raises(ConfigError) as caught:
        ask("cifar10-32")
    assert str(caught.value) == (
        f"recipe must be one of {NAMES}. Received: 'cifar10-32'. Did you mean 'cifar10-32px'?"
    )


def test_rates_follow_the_batch_and_warm_up():
    base = recipes.get("cifar10-32px")  # 128 images, five epochs, one of warm-up
    scaled = recipes.scale_learning_rate(dataclasses.replace(base, global_batch_size=512), 128)
    (phase,) = scaled.phases
    assert phase.learning_rate == pytest.approx(4 * base.phases[0].learning_rate)
    assert phase.warmup_epochs == 1.0
    long = dataclasses.replace(base.phases[0], epochs=50, warmup_epochs=0.0)
    longer = dataclasses.replace(base, global_batch_size=256, phases=(long,))
    assert recipes.scale_learning_rate(longer, 128).phases[0].warmup_epochs == 5.0


def test_a_smaller_batch_lowers_the_rate_without_a_warm_up():
    base = recipes.get("cifar10-scratch")  # one cycle, 512 images
    for size, factor in ((256, 0.5), (1024, 2.0)):
        config = dataclasses.replace(base, global_batch_size=size)
        (phase,) = recipes.scale_learning_rate(config, 512).phases
        assert phase.learning_rate == pytest.approx(factor * base.phases[0].learning_rate)
        assert phase.warmup_epochs == base.phases[0].warmup_epochs
    assert recipes.scale_learning_rate(base, 512) == base
