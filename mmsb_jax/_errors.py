"""The family of errors. Each is also the builtin that a Python user would catch.

A message says what was passed, what is needed and how to mend it.
"""

from typing import Any

__all__ = [
    "BusClosedError",
    "CapacityError",
    "CheckpointFailedError",
    "CorruptCheckpointError",
    "CorruptLogError",
    "GraphCycleError",
    "HandlerFailedWarning",
    "InvalidArgumentError",
    "InvalidDeltaError",
    "InvalidTypeError",
    "LogCompactedError",
    "LogFailedError",
    "LogLockedError",
    "LogNotFoundError",
    "MMSBError",
    "MissingPackageError",
    "NotInTransactionError",
    "PageNotFoundError",
    "ReplayDivergenceError",
    "SemiringLawError",
    "TransactionConflictError",
    "TransactionOverError",
]


class MMSBError(Exception):
    """Base of every error that mmsb_jax raises on purpose."""


class InvalidArgumentError(MMSBError, ValueError):
    """An argument has the right type but a value that can't be used."""


class InvalidTypeError(MMSBError, TypeError):
    """An argument has a type or dtype that can't be used."""


class InvalidDeltaError(MMSBError, ValueError):
    """A delta doesn't fit the state it was made for."""


class PageNotFoundError(MMSBError, KeyError):
    """A page was never created here, or has been deleted."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the sentence in quotes.
        return str(self.args[0]) if self.args else ""


class CapacityError(MMSBError, OverflowError):
    """Something didn't fit into the room that was declared for it."""


class GraphCycleError(MMSBError, ValueError):
    """The edges contain a cycle. `cycle` lists its pages, first = last."""

    def __init__(self, message: str, cycle: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.cycle = cycle


class SemiringLawError(MMSBError, ValueError):
    """A semiring breaks a law that it claims."""


class BusClosedError(MMSBError, ValueError):
    """The bus was stopped, or closed itself after its log failed."""


class HandlerFailedWarning(RuntimeWarning):
    """A handler of events raised. What it was told of stands, and the other handlers were told."""


class TransactionConflictError(MMSBError, RuntimeError):
    """Others have committed to pages that a transaction had read or written; it is rolled back. `pages` lists them."""

    def __init__(self, message: str, pages: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.pages = pages


class TransactionOverError(MMSBError, ValueError):
    """The transaction was committed or rolled back."""


class NotInTransactionError(MMSBError, AttributeError):
    """A bus can do this, a transaction can't."""


class LogNotFoundError(MMSBError, FileNotFoundError):
    """The path holds no run."""


class LogLockedError(MMSBError, BlockingIOError):
    """Another writer holds the log."""


class LogCompactedError(MMSBError, LookupError):
    """Frames that were still to be read have been merged by a compaction meanwhile."""


class LogFailedError(MMSBError, OSError):
    """Writing or syncing the log failed; what was acknowledged before is safe."""


class CorruptLogError(MMSBError, ValueError):
    """The log is damaged. `file`, `offset` and `reason` say where and how."""

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{file}, byte {offset}: {reason}. The log can't be trusted beyond this point; "
            "restore the file from a copy, or read the run up to the last commit before it."
        )
        self.file, self.offset, self.reason = file, offset, reason


class CheckpointFailedError(MMSBError, OSError):
    """A checkpoint couldn't be written; the log and the checkpoints before are as they were."""


class CorruptCheckpointError(MMSBError, ValueError):
    """A checkpoint is damaged, or isn't one of this log. `file`, `offset` and `reason` say where and how."""

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{file}, byte {offset}: {reason}. This checkpoint can't be used; "
            "an older one, or the log from its beginning, leads to the same state."
        )
        self.file, self.offset, self.reason = file, offset, reason


class MissingPackageError(MMSBError, ImportError):
    """Something optional is needed that isn't installed; the message has the command that installs it."""


class ReplayDivergenceError(MMSBError, RuntimeError):
    """Replaying the log gave other bits than the run that wrote it."""
