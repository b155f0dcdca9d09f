"""`mmsb compact`: shorten a log."""

from argparse import Namespace

from .._text import counted
from ..page import TransactionLog, compact, open_run
from ._output import json_text

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Merge what was committed before an epoch."""
    before = options.before
    if before < 0:
        before = max(0, open_run(options.path).last + 1 + before)
    with TransactionLog.open(options.path) as log:
        found = compact(log, before)
    if options.json:
        print(json_text(found._asdict()))
    elif found.merged:
        print(f"merged {counted(found.merged, 'commit')} and freed {counted(found.freed, 'byte')}")
        print(f"the earliest epoch that can be read is {found.first}")
    else:
        print(f"nothing to merge: the log begins at epoch {found.first}")
    return 0
