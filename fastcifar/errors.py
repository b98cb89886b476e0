"""The exception tree: what is raised tells whose mistake it is and which exit status it deserves.

Every message is one line that names the thing, the rule and what was received, and where possible
the mend; `fastcifar.cli` prints it as it stands, without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FastcifarError(Exception):
    """Base of every error this package raises on purpose. Exit status 1."""

    exit_status = 1


class UserError(FastcifarError):
    """A mistake in what the user gave. Exit status 2."""

    exit_status = 2


class ConfigError(UserError):
    """A configuration value, key, flag or recipe name that is not legal."""


class SourceError(UserError):
    """A data source that is absent, unreadable or does not hold what its layout promises."""


class RunDirError(UserError):
    """A run folder that cannot be written, is already in use, or is not a run folder."""


class DeviceError(UserError):
    """A device layout that this machine does not have or that cannot work."""


class DeviceMemoryError(UserError):
    """What was asked for does not fit into the memory of a device."""


class WorkerError(FastcifarError):
    """Another worker of the run has died, does not answer, or is at odds with this one."""


class DivergenceError(FastcifarError):
    """The loss or the gradients stopped being finite."""


def nearest(name: str, legal: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest of `legal`, or an empty string.

    >>> nearest("epoch", ["epochs", "seed"])
    " Did you mean 'epochs'?"
    """
    found = difflib.get_close_matches(name, list(legal), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""


def one_line(error: BaseException) -> str:
    """Return an error's message as one printable line."""
    # A path or a message from below may hold line ends.
    return printable(" ".join(str(error).splitlines()))


def printable(text: str) -> str:
    r"""Return `text` with every character that is not printable as its escape.

    Names of files and classes are the user's own: one with ESC in it must not steer the terminal,
    one with a line break must not look like two. Other scripts and signs stay as they are.

    >>> printable("cat\x1b[31m")
    'cat\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )
