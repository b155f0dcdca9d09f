"""The program: which command runs, how it ends, and what is said when it can't."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from io import TextIOWrapper

from .._errors import InvalidArgumentError, InvalidTypeError, MMSBError, PageNotFoundError
from .._text import printable
from ._parser import parser

__all__ = ["main"]

_ASKED_WRONGLY = (InvalidArgumentError, InvalidTypeError, PageNotFoundError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status, which `mmsb --help` explains.

    **Arguments:** those of the command line; None: those of the process.

    ```python
    >>> import mmsb_jax as mmsb, tempfile
    >>> from mmsb_jax.cli import main
    >>> path = tempfile.mkdtemp() + "/run.mmsb"
    >>> with mmsb.start(path) as bus:
    ...     page = bus.create_page(4, name="x")
    ...     tick = bus.update_page("x", b"abcd")
    >>> main(["blame", path, "x"])
    x
         epoch      elements  source / intent
             1             4  api
    0

    ```
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that can't show a name shows its numbers
    if "jax" not in sys.modules:
        os.environ.setdefault(
            "JAX_PLATFORMS", "cpu"
        )  # who looks into a run must not take the device from who writes it
    options = parser().parse_args(arguments)
    try:
        status = _command(options.command)(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, for instance `head`, has seen enough. What is left in the buffer must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130  # as a shell reports what Ctrl-C has ended
    except (MMSBError, OSError) as error:
        print(f"mmsb: {printable(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, _ASKED_WRONGLY) else 3


def _command(name: str) -> Callable[[Namespace], int]:
    # Imported here: only what is wanted, since JAX takes a second to come.
    match name:
        case "log":
            from ._log import run
        case "show":
            from ._show import run
        case "diff":
            from ._diff import run
        case "blame":
            from ._blame import run
        case "verify":
            from ._verify import run
        case "stats":
            from ._stats import run
        case "compact":
            from ._compact import run
        case "export":
            from ._export import run
    return run
