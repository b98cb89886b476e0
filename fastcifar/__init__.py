"""Train ResNet50 on CIFAR-10 as fast as the hardware allows, and see where the time goes."""

__version__ = "0.1.0"
