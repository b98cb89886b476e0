"""The layers of KerasCV and Keras that do what an operation of ours does.

A layer is made from the fields of our operation, so that both draw from the same range and a check
can pin the range to one value and compare the results. Where a layer is defined otherwise, it says
how; it then draws from the nearest range that it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.bench.augmentation.names import KERAS, KERAS_CV, LIBRARIES

_VALUES = (0, 255)
_BORDERS = {"zero": "constant", "reflect": "reflect", "edge": "nearest"}
Layer = Callable[..., Any]
# (the library's layers, operation, (height, width) of the images) -> layers, one after the other
Maker = Callable[[Any, Any, tuple[int, int]], Sequence[Layer]]


@dataclass(frozen=True)
class Peer:
    """What a library has in the place of one of our operations.

    Attributes:
        make: makes the layers.
        differs: how its definition differs from ours, or empty.
    """

    make: Maker
    differs: str = ""


@dataclass(frozen=True)
class Layers:
    """A library's layers for one policy. They hold state, so they are made once a function.

    Attributes:
        layers: called one after the other.
        mixes: whether they take labels too.
        image_size: (H, W) of the output.
    """

    layers: tuple[Layer, ...]
    mixes: bool
    image_size: tuple[int, int]

    def __call__(self, images: Any, labels: Any, *keys: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Map images [B, h, w, 3], 0..255, and float32 labels [B, C] to float32 of both.

        `keys`, seed and positions, have no influence: layers draw as they like.
        """
        images, labels = tf.cast(images, tf.float32), tf.convert_to_tensor(labels)
        for layer in self.layers:
            if self.mixes:
                mixed = layer({"images": images, "labels": labels}, training=True)
                images, labels = mixed["images"], mixed["labels"]
            else:
                images = layer(images, training=True)
        if tuple(images.shape[1:3]) != self.image_size:
            images = tf.image.resize(images, self.image_size)
        return images, labels


def make(
    operations: Sequence[op.Operation],
    library: str,
    source_size: tuple[int, int],
    image_size: tuple[int, int],
) -> Layers:
    """Make a library's layers for the operations of a policy; it must have one for each.

    Args:
        operations: of one policy; mixing ones alone.
        library: `KerasCV` or `Keras`.
        source_size, image_size: (height, width) of the images that come and that go.
    """
    home = _home(library)
    layers = [
        layer
        for operation in operations
        for layer in _PEERS[type(operation)][library].make(home, operation, source_size)
    ]
    mixes = any(isinstance(operation, op.Mixing) for operation in operations)
    return Layers(tuple(layers), mixes, image_size)


def differences(operations: Sequence[op.Operation], library: str) -> str:
    """How a library's layers for `operations` differ in their definition; empty if they do not."""
    found = [peer(operation, library) for operation in operations]
    return "; ".join(dict.fromkeys(one.differs for one in found if one and one.differs))


def peer(operation: op.Operation, library: str) -> Peer | None:
    """What `library` has for `operation`, or None."""
    return _PEERS.get(type(operation), {}).get(library)


def _home(library: str) -> Any:
    if library == KERAS:
        return keras.layers
    import keras_cv  # takes seconds

    return keras_cv.layers


def _padded(padding: int) -> Layer:
    def pad(images: tf.Tensor, training: bool) -> tf.Tensor:
        return tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])

    return pad


def _moving(name: str, factors: Callable[[Any], Sequence[op.Range]]) -> Maker:
    """A layer that moves pixels: its factors by position, and our border."""
    return lambda home, o, _: [getattr(home, name)(*factors(o), fill_mode=_BORDERS[o.border])]


def _colouring(
    name: str, factor: Callable[[Any], op.Range | int], keyword: str = "factor"
) -> Maker:
    """A layer that changes colours: its factor, and the range of pixel values."""
    return lambda home, o, _: [getattr(home, name)(value_range=_VALUES, **{keyword: factor(o)})]


def _turns(o: op.Rotate) -> list[op.Range]:
    return [(o.degrees[0] / 360, o.degrees[1] / 360)]


def _growth(o: op.Zoom) -> list[op.Range]:
    # They give the share by which the window grows where we give the magnification.
    return [(1 / o.factor[1] - 1, 1 / o.factor[0] - 1)]


def _slants(o: op.Shear) -> list[op.Range]:
    return [_either_sign(o.x), _either_sign(o.y)]


def _either_sign(bounds: op.Range) -> op.Range:
    # They draw the sign themselves: a range about zero becomes that of its absolute value.
    low, high = sorted(map(abs, bounds))
    return (0.0 if bounds[0] < 0 < bounds[1] else low), high


def _below_and_above(o: Any) -> op.Range:
    return 1 - o.factor[0], o.factor[1] - 1


def _odds(o: op.Saturation) -> op.Range:
    # Their x means a factor of x / (1 - x).
    return o.factor[0] / (1 + o.factor[0]), o.factor[1] / (1 + o.factor[1])


def _up_to_255(o: op.Solarise) -> op.Range:
    return min(o.threshold[0], 255.0), min(o.threshold[1], 255.0)


def _shares_of_255(o: op.Solarise) -> op.Range:
    low, high = _up_to_255(o)
    return low / 255, high / 255


def _half_turns(o: op.Hue) -> op.Range:
    low, high = _either_sign(o.turns)
    return 2 * low, 2 * high


_CHANNELS = "mean of each channel in place of the mean grey"
_CORNER = "about a corner in place of the centre"
_HSV = "scales HSV saturation in place of blending with grey"
_PEERS: dict[type[op.Operation], dict[str, Peer]] = {
    op.Flip: {
        KERAS_CV: Peer(lambda home, o, _: [home.RandomFlip(o.axis, rate=o.probability)]),
        KERAS: Peer(lambda home, o, _: [home.RandomFlip(o.axis)]),
    },
    op.PadCrop: {
        KERAS_CV: Peer(
            lambda home, o, size: [_padded(o.padding), home.RandomCrop(*size)],
            "nearest neighbours, which repeat and skip rows and columns",
        ),
        KERAS: Peer(
            lambda home, o, size: [_padded(o.padding), home.RandomCrop(*size)],
            "one offset for the whole batch",
        ),
    },
    op.RandomResizedCrop: {
        KERAS_CV: Peer(lambda home, o, size: [home.RandomCropAndResize(size, o.area, o.aspect)])
    },
    op.Translate: dict.fromkeys(
        LIBRARIES, Peer(_moving("RandomTranslation", lambda o: [o.height, o.width]))
    ),
    op.Zoom: dict.fromkeys(LIBRARIES, Peer(_moving("RandomZoom", _growth))),
    op.Rotate: dict.fromkeys(LIBRARIES, Peer(_moving("RandomRotation", _turns))),
    op.Shear: dict.fromkeys(LIBRARIES, Peer(_moving("RandomShear", _slants), _CORNER)),
    op.Brightness: dict.fromkeys(
        LIBRARIES,
        Peer(
            _colouring("RandomBrightness", lambda o: (o.factor[0] - 1, o.factor[1] - 1)),
            "adds in place of multiplying",
        ),
    ),
    op.Contrast: dict.fromkeys(
        LIBRARIES, Peer(_colouring("RandomContrast", _below_and_above), _CHANNELS)
    ),
    op.Saturation: {
        KERAS_CV: Peer(lambda home, o, _: [home.RandomSaturation(_odds(o))], _HSV),
        KERAS: Peer(_colouring("RandomSaturation", _odds), _HSV),
    },
    op.Sharpness: {
        KERAS_CV: Peer(
            _colouring("RandomSharpness", lambda o: (0.0, 1 - o.factor[0])), "smooths only"
        ),
        KERAS: Peer(
            _colouring("RandomSharpness", lambda o: (o.factor[0] / 2, o.factor[1] / 2)),
            "blends the outermost pixels with black",
        ),
    },
    op.Hue: dict.fromkeys(LIBRARIES, Peer(_colouring("RandomHue", _half_turns))),
    op.Greyscale: {
        KERAS_CV: Peer(lambda home, o, _: [home.Grayscale(output_channels=3)]),
        KERAS: Peer(lambda home, o, _: [home.RandomGrayscale(o.probability)]),
    },
    op.Invert: {KERAS: Peer(_colouring("RandomInvert", lambda o: (o.probability, o.probability)))},
    op.Autocontrast: dict.fromkeys(
        LIBRARIES, Peer(lambda home, o, _: [home.AutoContrast(value_range=_VALUES)])
    ),
    op.Equalise: dict.fromkeys(
        LIBRARIES,
        Peer(
            lambda home, o, _: [home.Equalization(value_range=_VALUES)],
            "leaves another value's count out of the histogram",
        ),
    ),
    op.Posterise: {
        KERAS_CV: Peer(
            _colouring("Posterization", lambda o: int(o.bits[0]), "bits"),
            "the same bits for every image",
        ),
        KERAS: Peer(
            lambda home, o, _: [home.RandomPosterization(tuple(map(int, o.bits)))],
            "never keeps the highest number of bits",
        ),
    },
    op.Solarise: {
        KERAS_CV: Peer(_colouring("Solarization", _up_to_255, "threshold_factor")),
        KERAS: Peer(
            _colouring("Solarization", _shares_of_255, "threshold_factor"),
            "thresholds from almost 0 on",
        ),
    },
    op.Cutout: {
        KERAS_CV: Peer(lambda home, o, _: [home.RandomCutout((o.side,) * 2, (o.side,) * 2)]),
        KERAS: Peer(
            lambda home, o, _: [home.RandomErasing((1.0, 1.0), (o.side**2,) * 2, fill_value=0.0)],
            "the square lies inside the image",
        ),
    },
    op.RandomErasing: {
        KERAS: Peer(
            lambda home, o, _: [home.RandomErasing((o.probability,) * 2, o.area, fill_value=0.0)],
            "height and width drawn apart, inside the image",
        )
    },
    op.RandAugment: {
        KERAS_CV: Peer(
            lambda home, o, _: [
                home.RandAugment(_VALUES, o.layers, o.strength, magnitude_stddev=0.0, rate=1.0)
            ],
            "its own operations and ranges",
        ),
        KERAS: Peer(
            lambda home, o, _: [home.RandAugment(_VALUES, o.layers, o.strength)],
            "its own operations and ranges",
        ),
    },
    op.MixUp: dict.fromkeys(LIBRARIES, Peer(lambda home, o, _: [home.MixUp(o.alpha)])),
    op.CutMix: {
        KERAS_CV: Peer(
            lambda home, o, _: [home.CutMix(o.alpha)],
            "labels follow the area before it is clipped at the border",
        ),
        KERAS: Peer(
            lambda home, o, _: [home.CutMix((o.alpha, o.alpha))],
            "labels follow the area before it is cut to pixels",
        ),
    },
}
