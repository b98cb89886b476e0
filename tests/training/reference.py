"""The train step in plain NumPy and float64: what every layout of it is held to."""

import numpy as np
import tensorflow as tf

from fastcifar.data.ordering import epoch_order
from fastcifar.models.losses import cross_entropy
from tests.training.tiny import BATCH, SEED, tiny_model, tiny_split


def _objects(arrays):
    """A list of arrays as one array of objects, so that it adds up element by element."""
    found = np.empty(len(arrays), object)
    found[:] = arrays
    return found


def reference(
    steps,
    replicas=1,
    parts=1,
    *,
    model=None,
    split=None,
    batch=BATCH,
    rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
):
    """Train in plain lines: a loop over slices, SGD with Nesterov momentum in NumPy.

    Args:
        steps: of `batch` images of `split`, within its first epoch.
        replicas: slices of a batch that see their own BatchNorm statistics, whose mean is kept.
        parts: of a replica's slice, one after the other.
        model: in float64, with the weights to start from.

    Returns:
        the sum of the losses of each step, and the values of all variables of the model.
    """
    model, split = model or tiny_model("float64"), split or tiny_split()
    velocity = [np.zeros(v.shape) for v in model.trainable_variables]
    losses = []
    order = epoch_order(seed=SEED, epoch=0, examples=len(split))
    for step in range(steps):
        indices = order[step * batch : (step + 1) * batch]
        gradients, statistics, total = 0, 0, 0.0
        before = [v.numpy() for v in model.non_trainable_variables]
        for share in np.split(indices, replicas):
            for variable, value in zip(model.non_trainable_variables, before, strict=True):
                variable.assign(value)
            for part in np.split(share, parts):
                with tf.GradientTape() as tape:
                    logits = model(split.images[part] / 255, training=True)
                    loss = tf.reduce_sum(cross_entropy(logits, tf.constant(split.labels[part])))
                found = tape.gradient(loss, [v.value for v in model.trainable_variables])
                gradients = gradients + _objects([g.numpy() / batch for g in found])
                total += float(loss)
            values = [v.numpy() / replicas for v in model.non_trainable_variables]
            statistics = statistics + _objects(values)
        for i, variable in enumerate(model.trainable_variables):
            gradient = gradients[i]
            if variable.path.endswith("kernel"):
                gradient = gradient + weight_decay * variable.numpy()
            velocity[i] = momentum * velocity[i] - rate * gradient
            variable.assign_add(momentum * velocity[i] - rate * gradient)
        for variable, value in zip(model.non_trainable_variables, statistics, strict=True):
            variable.assign(value)
        losses.append(total)
    return losses, [v.numpy() for v in model.variables]
