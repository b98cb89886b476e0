"""Turn a policy into one function on tensors.

The order of the chain is a matter of cost: colours and erasing touch the small uint8 source, then
all geometry and the resize are one resampling, and mixing blends what comes out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from fastcifar.augment import (
    automatic,
    erasing,
    mixing,
    photometric,
    policies,
    resampling,
    transforms,
)
from fastcifar.augment import operations as op
from fastcifar.augment.checks import (
    check_choice,
    check_groups,
    check_image_size,
    check_images,
    check_indices,
    check_keys,
    check_labels,
)
from fastcifar.augment.keras_cv_layers import KerasCVLayers
from fastcifar.augment.randomness import draw
from fastcifar.augment.randomness import normal as normal_numbers
from fastcifar.errors import ConfigError

Tensor = Any  # tf.Tensor; TensorFlow ships no types

# Operations with the uniform numbers of each image, the choice between mixing ones last.
Drawn = list[tuple[Any, Tensor]]


def build(
    policy: policies.Policy | str,
    *,
    image_size: tuple[int, int],
    num_classes: int,
    resize_method: str = "bilinear",
    dtype: Any = "float32",
    form: str = "auto",
) -> Chain:
    """Return `augment(images, labels, seed, positions, indices) -> (images, labels)`.

    Args:
        policy: a `Policy`, or a name that `policies.get` knows.
        image_size: (H, W) of the output.
        num_classes: C, at least 2.
        resize_method: "bilinear" or "nearest".
        dtype: floating dtype of the output.
        form: how to resample: "auto", "matmul" or "gather"; see `fastcifar.augment.resampling`.

    Returns:
        A pure function, equally at home under `tf.function(jit_compile=True)` (if
        `policy.compiled`), in a graph, in `tf.data.Dataset.map` after batching, and eager.

        It takes images uint8 or floating [B, h, w, 3], 0..255; labels int [B], or float [B, C]
        where the policy mixes; seed integers [2], (run seed, epoch); positions integers [B], the
        global position of each image within the epoch; indices integers [B], the place of each
        image in its split, which only a policy with an alternating flip needs. B must be static
        and a multiple of `policy.group_size` where that is above 1.

        It returns images `dtype` [B, H, W, 3], still 0..255, for `preprocess.normalise`; and the
        labels as they came, or float32 [B, C] where the policy mixes. It raises ConfigError if an
        argument is not as above.

    Raises:
        ConfigError: if an argument is not as above.
    """
    if not isinstance(policy, policies.Policy):
        policy = policies.get(policy)
    size = check_image_size(image_size)
    check_choice("resize method", resize_method, resampling.METHODS)
    check_choice("form", form, resampling.FORMS)
    dtype = tf.as_dtype(dtype)
    if not dtype.is_floating:
        raise ConfigError(f"dtype must be floating. Received: {dtype.name}")
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ConfigError(f"num_classes must be a whole number above 1. Received: {num_classes!r}")
    return Chain(policy, size, num_classes, resize_method, dtype, form)


class Chain:
    """The function that `build` returns, whole or in two parts. Holds no tensors."""

    def __init__(
        self,
        policy: policies.Policy,
        image_size: tuple[int, int],
        num_classes: int,
        method: str,
        dtype: Any,
        form: str,
    ) -> None:
        self.policy = policy
        self._size, self._classes = image_size, num_classes
        self._layers: KerasCVLayers | None = None
        self._resampling: dict[str, Any] = {
            "border": policy.border,
            "method": method,
            "form": form,
            "dtype": dtype,
        }

    # Nothing in here depends on a tensor's value: converting it would only lengthen tracing.
    @tf.autograph.experimental.do_not_convert
    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        seed: Tensor,
        positions: Tensor,
        indices: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        images, seed, positions = self._checked(images, seed, positions)
        drawn = self._draw(seed, positions)
        labels = check_labels(labels, images, self._classes, mixes=self.policy.mixes)
        images = self._resample(images, drawn, seed, positions, indices)
        return self._blend(images, labels, drawn)

    @tf.autograph.experimental.do_not_convert
    def to_size(
        self, images: Tensor, seed: Tensor, positions: Tensor, indices: Tensor | None = None
    ) -> Tensor:
        """The first part, up to the resampling: what has to be done where images are resized."""
        images, seed, positions = self._checked(images, seed, positions)
        return self._resample(images, self._draw(seed, positions), seed, positions, indices)

    @tf.autograph.experimental.do_not_convert
    def mix(
        self, images: Tensor, labels: Tensor, seed: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The second part, on what `to_size` gave; both together are the whole."""
        images, seed, positions = self._checked(images, seed, positions)
        labels = check_labels(labels, images, self._classes, mixes=self.policy.mixes)
        images = tf.cast(images, self._resampling["dtype"])
        return self._blend(images, labels, self._draw(seed, positions))

    def _checked(
        self, images: Tensor, seed: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        images = check_images(images)
        seed, positions = check_keys(images, seed, positions)
        check_groups(images, self.policy.group_size, f"policy {self.policy.name!r}")
        return images, seed, positions

    def _draw(self, seed: Tensor, positions: Tensor) -> Drawn:
        return draw([*self.policy.operations, mixing.CHOICE], seed, positions)

    def _resample(
        self,
        images: Tensor,
        drawn: Drawn,
        seed: Tensor,
        positions: Tensor,
        indices: Tensor | None,
    ) -> Tensor:
        indices = check_indices(images, indices, self.policy.operations)
        maps = []
        for index, (operation, numbers) in enumerate(drawn):
            if isinstance(operation, op.Photometric):
                # Stream 0 is everything drawn above; noise has one of its own per operation.
                normal = partial(normal_numbers, seed, positions, stream=1 + index)
                images = photometric.adjust(operation, tf.cast(images, tf.float32), numbers, normal)
            elif isinstance(operation, op.TrivialAugment | op.RandAugment):
                images, drawn_map = automatic.apply(operation, tf.cast(images, tf.float32), numbers)
                maps.append(drawn_map)
            elif isinstance(operation, op.Geometric):
                maps.append(
                    transforms.transform(
                        operation, numbers, images=images, seed=seed, indices=indices
                    )
                )
            elif isinstance(operation, op.KerasCV):
                images = self._keras_cv(operation, images)
        transform = transforms.compose_all(maps) if maps else None
        for operation, numbers in drawn:
            if isinstance(operation, op.Erasing):
                covered = erasing.rectangle(operation, numbers, images.shape[1:3])
                images = erasing.cover(images, covered, operation.fill, transform)
        return resampling.resample(images, transform, self._size, **self._resampling)

    def _blend(self, images: Tensor, labels: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        if not self.policy.mixes:
            return images, labels
        mixes = [pair for pair in drawn if isinstance(pair[0], op.Mixing)]
        return mixing.blend(images, labels, mixes, drawn[-1][1], self._classes)

    def _keras_cv(self, operation: op.KerasCV, images: Tensor) -> Tensor:
        if self._layers is None:
            # Layers may own variables: they are made outside of whatever graph is being traced.
            with tf.init_scope():
                self._layers = KerasCVLayers(operation, tuple(images.shape[1:3]))
        return self._layers(images)
