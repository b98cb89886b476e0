"""Train ResNet50 on CIFAR-10 as fast as the hardware allows, and see where the time goes."""

import os

from fastcifar.surroundings import settle_variables

__version__ = "0.1.0"

settle_variables(os.environ)  # here, because no other module comes before every import of Keras
