"""The named configurations are what their names promise."""

from __future__ import annotations

import pytest

from fastcifar import recipes
from fastcifar.errors import ConfigError


def test_the_recipes():
    assert recipes.names() == ("quickstart", "cifar10-scratch", "cifar10-32px")


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
        "recipe must be one of quickstart, cifar10-scratch, cifar10-32px. "
        "Received: 'cifar10-32'. Did you mean 'cifar10-32px'?"
    )
