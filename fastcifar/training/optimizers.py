"""Optimizers as one fused, in-place operation per variable.

TensorFlow's training operations (`ResourceApply...`) read and write each variable once, inside XLA
and outside. The same formulas as elementwise operations, which is what Keras 3's optimizers are,
pass over the weights several times.

Without weight decay an update is that of `SGD(momentum, nesterov=True)`, `Adam` and `RMSprop` of
`keras.optimizers` with their defaults, epsilon 1e-7 (in RMSprop it stands under the root, in Adam
beside it), whatever the rate does; and with decay that of `AdamW` for the kernels. Tests compare
them. Otherwise than there

- weight decay of sgd, adam and rmsprop is L2 in the gradient; Keras' argument `weight_decay` is
  decoupled for all of its optimizers;
- only kernels decay; Keras decays all variables that are not excluded;
- `--clip-norm` bounds the norm of all gradients together, as Keras' `global_clipnorm`, not that of
  each, as its `clipnorm`;
- averages (`--ema`) move faster at first, and take in BatchNorm's statistics.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fastcifar.config import OptimizerConfig

_EPSILON = 1e-7  # as in Keras
_BETAS = (0.9, 0.999)  # of adam and adamw
_SLOTS = {
    "sgd": ("momentum",),
    "adam": ("m", "v"),
    "adamw": ("m", "v"),
    "rmsprop": ("mean_square",),
}


def decayed(path: str) -> bool:
    """Whether weight decay touches the variable of this path: kernels only.

    BatchNorm parameters and biases are never decayed.
    """
    return path.rsplit("/", 1)[-1] == "kernel"


@dataclass(frozen=True)
class Optimizer:
    """Applies reduced gradients to variables.

    Weight decay is L2 in the gradient for sgd, adam and rmsprop; decoupled, times the rate, for
    adamw (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).
    """

    config: OptimizerConfig

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the variables kept per parameter, each of its shape and dtype, zero at first."""
        return _SLOTS[self.config.optimizer]

    def apply(
        self,
        parameters: Sequence[tf.Variable],
        slots: dict[str, Sequence[tf.Variable]],
        gradients: Sequence[tf.Tensor],
        *,
        decay: Sequence[bool],
        learning_rate: tf.Tensor,
        updates: tf.Tensor,
        rate_factors: Sequence[float] | None = None,
    ) -> None:
        """Write the update into `parameters` and `slots`.

        Args:
            parameters: the variables; plain ones (a mirrored variable's component on this device).
            slots: for each name of `self.slots`, one variable per parameter.
            gradients: of the global batch, one per parameter.
            decay: whether weight decay touches each parameter.
            learning_rate: scalar.
            updates: int64 scalar, updates applied before this one (Adam's bias correction).
            rate_factors: of the learning rate, for each parameter; 1 by default.
        """
        powers = self._powers(updates, {variable.dtype for variable in parameters})
        for i, (variable, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            rate = tf.cast(learning_rate, variable.dtype)
            if rate_factors is not None and rate_factors[i] != 1:
                rate = rate * tf.cast(rate_factors[i], variable.dtype)
            if decay[i] and self.config.weight_decay:
                if self.config.optimizer == "adamw":
                    factor = tf.cast(self.config.weight_decay, variable.dtype) * rate
                    variable.assign_sub(factor * variable.read_value())
                else:
                    gradient = gradient + self.config.weight_decay * variable.read_value()
            own = {name: slots[name][i] for name in self.slots}
            self._apply_one(variable, own, gradient, rate, powers)

    def _powers(self, updates: tf.Tensor, dtypes: Set[Any]) -> dict[Any, list[tf.Tensor]]:
        """Adam's beta1 and beta2 to the power of the updates, this one included, by dtype."""
        if self.config.optimizer not in ("adam", "adamw"):
            return {}
        return {
            dtype: [tf.pow(tf.cast(beta, dtype), tf.cast(updates + 1, dtype)) for beta in _BETAS]
            for dtype in dtypes
        }

    def _apply_one(
        self,
        variable: tf.Variable,
        slots: dict[str, tf.Variable],
        gradient: tf.Tensor,
        rate: tf.Tensor,
        powers: dict[Any, list[tf.Tensor]],
    ) -> None:
        def scalar(value: Any) -> tf.Tensor:
            return tf.cast(value, variable.dtype)

        if self.config.optimizer == "sgd":
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=slots["momentum"].handle,
                lr=rate,
                grad=gradient,
                momentum=scalar(self.config.momentum),
                use_nesterov=True,
            )
        elif self.config.optimizer in ("adam", "adamw"):
            beta1_power, beta2_power = powers[variable.dtype]
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=slots["m"].handle,
                v=slots["v"].handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=rate,
                beta1=scalar(_BETAS[0]),
                beta2=scalar(_BETAS[1]),
                epsilon=scalar(_EPSILON),
                grad=gradient,
            )
        else:
            # The operation wants a momentum slot even at momentum 0, where it holds the last step;
            # Keras' formula without it is two lines.
            mean_square = slots["mean_square"]
            mean_square.assign(0.9 * mean_square.read_value() + 0.1 * tf.square(gradient))
            denominator = tf.sqrt(mean_square.read_value() + scalar(_EPSILON))
            variable.assign_sub(rate * gradient / denominator)
