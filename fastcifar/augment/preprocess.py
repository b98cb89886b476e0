"""Resize and normalise: deterministic, and the same for training, evaluation and export."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import resampling
from fastcifar.augment.checks import check_choice, check_image_size, check_images

Tensor = Any  # tf.Tensor; TensorFlow ships no types
METHODS = resampling.METHODS
# scheme -> (mean, standard deviation, whether channels are BGR), all on the 0..255 scale:
# - unit: 0..1.
# - cifar: mean and standard deviation of the CIFAR-10 training pixels.
# - imagenet: those of ImageNet, as torchvision's weights expect.
# - caffe: what `keras.applications.resnet50.preprocess_input` does, as Keras' weights expect.
_SCHEMES: dict[str, tuple[tuple[float, ...], tuple[float, ...], bool]] = {
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), False),
    "cifar": ((125.307, 122.961, 113.8575), (62.985, 62.0925, 66.708), False),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False),
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), True),
}
SCHEMES = tuple(_SCHEMES)


def resize(
    images: Tensor,
    image_size: tuple[int, int],
    *,
    method: str = "bilinear",
    dtype: Any = "float32",
) -> Tensor:
    """Resize images; where they have that size already, only cast them.

    Equal to `tf.image.resize` with the same method, antialiased when shrinking, but compiled by
    XLA in that case too and faster on a CPU when enlarging.

    Args:
        images: uint8 or floating [B, h, w, 3], 0..255.
        image_size: (height, width).
        method: "bilinear" or "nearest".
        dtype: floating dtype of the output and of the arithmetic.

    Returns:
        `dtype` [B, height, width, 3], 0..255.

    Raises:
        ConfigError: if an argument is not as above.
    """
    images = check_images(images)
    image_size = check_image_size(image_size)
    check_choice("resize method", method, METHODS)
    return resampling.resize(images, image_size, method=method, dtype=tf.as_dtype(dtype))


def scheme_of(scale: np.ndarray, offset: np.ndarray) -> str | None:
    """Return the scheme that makes `scale * pixel + offset` of RGB pixels 0..255, or None.

    Args:
        scale, offset: float [3]. Values within 0.02 of a scheme's are its.
    """
    pixels = np.array([[0.0], [255.0]])
    for name, (mean, deviation, swapped) in _SCHEMES.items():
        theirs = (pixels - np.array(mean)) / np.array(deviation)
        if not swapped and np.abs(pixels * scale + offset - theirs).max() <= 0.02:
            return name
    return None


def normalise(images: Tensor, scheme: str) -> Tensor:
    """Shift and scale each channel, in float32, and return the dtype that came in.

    Args:
        images: floating [B, H, W, 3], RGB, 0..255.
        scheme: "unit" (0..1), "cifar" or "imagenet" (zero mean and unit variance over that data
            set, RGB) or "caffe" (ImageNet's mean subtracted, BGR, otherwise 0..255).

    Returns:
        The same shape and dtype.

    Raises:
        ConfigError: if the scheme is unknown or the images are not floating [B, H, W, 3].
    """
    images = check_images(images, floating=True)
    check_choice("normalisation scheme", scheme, SCHEMES)
    mean, deviation, bgr = _SCHEMES[scheme]
    if bgr:
        images = tf.reverse(images, axis=[-1])
    scale = (1 / np.array(deviation)).astype(np.float32)
    offset = (-np.array(mean) / np.array(deviation)).astype(np.float32)
    # float32 even for bfloat16 images: 0..255 is exact in both, normalised values are not.
    return tf.cast(tf.cast(images, tf.float32) * scale + offset, images.dtype)


def preprocess(
    images: Tensor,
    *,
    image_size: tuple[int, int],
    scheme: str,
    method: str = "bilinear",
    dtype: Any = "float32",
) -> Tensor:
    """Resize, then normalise: what a model sees. Arguments and errors as of the two functions."""
    return normalise(resize(images, image_size, method=method, dtype=dtype), scheme)
