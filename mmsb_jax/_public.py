"""What `import mmsb_jax as mmsb` offers. Loaded with the first use of any of it, since JAX takes a second to come."""

from importlib.metadata import version as _version

from . import _errors, graph, layout, page, physical, propagation, semiring, testing, utility
from ._catalog import Page
from ._delivery import Subscription
from ._errors import *  # noqa: F403
from ._events import CustomEvent, DeltaApplied, Event, EventKind, PagesMarked
from ._transaction import Transaction
from .bus import Bus, start
from .graph import EdgeKind, ShadowPageGraph
from .page import DeltaBatch, Recorder, Run, apply, diff, digest, merge, open_run, record, replay
from .physical import Paging, State, as_words, from_words
from .propagation import Rule, RuleGraph, SparseMatrix, Term, closure, matmul, propagate, tick

__version__ = _version("mmsb-jax")

__all__ = [
    "Bus",
    "CustomEvent",
    "DeltaApplied",
    "DeltaBatch",
    "EdgeKind",
    "Event",
    "EventKind",
    "Page",
    "PagesMarked",
    "Paging",
    "Recorder",
    "Rule",
    "RuleGraph",
    "Run",
    "ShadowPageGraph",
    "SparseMatrix",
    "State",
    "Subscription",
    "Term",
    "Transaction",
    "apply",
    "as_words",
    "closure",
    "diff",
    "digest",
    "from_words",
    "graph",
    "layout",
    "matmul",
    "merge",
    "open_run",
    "page",
    "physical",
    "propagate",
    "propagation",
    "record",
    "replay",
    "semiring",
    "start",
    "testing",
    "tick",
    "utility",
    *_errors.__all__,
]
