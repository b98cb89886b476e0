"""What a policy is made of: each operation as frozen, validated data.

No TensorFlow here: configuration, `fastcifar recipes` and documentation read these classes without
importing it. `fastcifar.augment.build` gives them their meaning on tensors.

Ranges are (low, high) pairs from which every image draws its own uniform value; an operation with
a `probability` is applied to each image independently.
"""

from fastcifar.augment.operations.base import BORDERS, MEAN_COLOUR, Operation, Range
from fastcifar.augment.operations.batchwise import (
    Automatic,
    CutMix,
    KerasCV,
    Mixing,
    MixUp,
    RandAugment,
    TrivialAugment,
)
from fastcifar.augment.operations.geometric import (
    AlternatingFlip,
    Flip,
    Geometric,
    PadCrop,
    RandomResizedCrop,
    Rotate,
    Shear,
    Translate,
    Zoom,
)
from fastcifar.augment.operations.photometric import (
    Autocontrast,
    Brightness,
    Contrast,
    Cutout,
    Equalise,
    Erasing,
    GaussianNoise,
    Greyscale,
    Hue,
    Invert,
    Photometric,
    Posterise,
    RandomErasing,
    Saturation,
    Sharpness,
    Solarise,
)

__all__ = [
    "BORDERS",
    "MEAN_COLOUR",
    "AlternatingFlip",
    "Autocontrast",
    "Automatic",
    "Brightness",
    "Contrast",
    "CutMix",
    "Cutout",
    "Equalise",
    "Erasing",
    "Flip",
    "GaussianNoise",
    "Geometric",
    "Greyscale",
    "Hue",
    "Invert",
    "KerasCV",
    "MixUp",
    "Mixing",
    "Operation",
    "PadCrop",
    "Photometric",
    "Posterise",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "Range",
    "Rotate",
    "Saturation",
    "Sharpness",
    "Shear",
    "Solarise",
    "Translate",
    "TrivialAugment",
    "Zoom",
]
