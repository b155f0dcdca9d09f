"""The options that choose rows of a log."""

from argparse import Namespace

from ..page import Selection, open_run, select

__all__ = ["selected"]


def selected(options: Namespace) -> Selection:
    """The rows that a command line asks for."""
    first, to = options.first, options.to
    if (first or 0) < 0 or (to or 0) < 0:
        end = open_run(options.path).last + 1
        first, to = (epoch if epoch is None or epoch >= 0 else max(0, end + epoch) for epoch in (first, to))
    return select(
        options.path,
        pages=options.pages,
        ticks=(first, to),
        times=(options.since, options.until),
        sources=options.sources,
        intents=options.intents,
        leaves=options.leaves,
    )
