"""Errors that a user can mend: each is one line that says what was wrong, where, what is allowed, what to do next.

Every error that a user's mistake can cause is an `UnpadError`. The command line prints its text alone and exits
with code 2; a traceback always means a defect of ours (or of the user's own code).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_CONTINUE = 75
"""Exit code of a run that was asked to stop, saved its state and wants to be started again (`EX_TEMPFAIL` of sysexits.h)."""


class UnpadError(ValueError):
    """Base of all errors that the user can mend."""


class ArgumentError(UnpadError):
    """An argument is unknown, contradictory or out of range."""


class DataError(UnpadError):
    """A file, column, row or label of the data cannot be used as it is."""


class CheckpointError(UnpadError):
    """Weights, a configuration or a training checkpoint cannot be read, written or do not fit."""


class HubError(UnpadError):
    """The Hub cannot be reached, refuses, or has no rights for what was asked."""


class TrainingError(UnpadError):
    """Training cannot go on (a loss that is not finite, an output folder of another run, ...)."""

    rows: tuple[int, ...] = ()
    """Rows of the training data that were being computed, where these matter."""


def nearest(name: object, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known name nearest to `name`, or an empty string when none is near."""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def listing(names: Iterable[object], most: int = 12) -> str:
    """A short readable list for messages: `a, b, c` and, past `most`, how many more there are."""
    items = [str(n) for n in names]
    shown = ", ".join(items[:most])
    return f"{shown}, ... ({len(items) - most} more)" if len(items) > most else shown
