"""How the rows of an augmentation record are named: SECTION/WHAT/WHOSE or SECTION/WHAT.

No TensorFlow: flags are checked and pages are written with these names alone.
"""

from __future__ import annotations

from fastcifar.augment import operations as op
from fastcifar.augment import policies

PARTS = ("operations", "input", "step")  # what can be asked for
OPERATIONS, POLICIES, INPUT, TRANSFORM, STEP = (
    "operations",
    "policies",
    "input",
    "transform",
    "step",
)
OURS, KERAS_CV, KERAS = "fastcifar", "KerasCV", "Keras"
LIBRARIES = (KERAS_CV, KERAS)


def row_name(*parts: str) -> str:
    """The name of a row."""
    return "/".join(parts)


def compiled(section: str) -> str:
    """The section of the same operations or policies, compiled by XLA."""
    return f"{section}_xla"


def subjects() -> dict[str, tuple[str, policies.Policy]]:
    """(section, policy) of every operation and policy that can be measured, by its name.

    An operation is a policy of its own. KerasCV's layers are no policy here: they are measured in
    the place of the policies that they imitate.
    """
    found = {}
    for name in op.__all__:
        kind = getattr(op, name)
        leaf = isinstance(kind, type) and issubclass(kind, op.Operation)
        if leaf and not kind.__subclasses__() and kind is not op.KerasCV:
            found[name] = (OPERATIONS, policies.Policy(name, (_always(kind),)))
    ours = {name: policy for name, policy in policies.POLICIES.items() if policy.compiled}
    return found | {name: (POLICIES, policy) for name, policy in ours.items()}


def _always(kind: type[op.Operation]) -> op.Operation:
    # What is applied to some images only is computed for all of them. With probability 1 it is what
    # other libraries' layers do too.
    covers = issubclass(kind, op.Photometric | op.Erasing)
    return kind(probability=1.0) if covers else kind()  # type: ignore[call-arg]
