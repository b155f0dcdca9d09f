"""`mmsb verify`: everything that can be checked."""

import sys
from argparse import Namespace

from .._errors import CorruptCheckpointError, CorruptLogError, ReplayDivergenceError
from .._text import printable
from ..page import verify
from ._output import json_text

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Check a run, and tell what was checked or where it fails; 1 if it does."""
    try:
        found = verify(options.path)
    except (CorruptLogError, CorruptCheckpointError, ReplayDivergenceError) as error:
        if options.json:
            print(json_text({"ok": False, "error": str(error)}))
        print(f"mmsb: {printable(str(error))}", file=sys.stderr)
        return 1
    if options.json:
        print(json_text({"ok": True} | found._asdict()))
        return 0
    for name, value in found._asdict().items():
        print(f"{name + ' epoch' if name in ('first', 'last') else name:11}  {value:>14,}")
    print("ok")
    return 0
