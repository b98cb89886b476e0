"""Figures computed from labels and predictions, in NumPy."""

from __future__ import annotations

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count examples by true and predicted class: int64 [classes, classes], rows are true classes.

    Args:
        labels, predictions: int [N], each in [0, classes).
    """
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)
