"""Layer 5: memory that lays itself out. Public as `mmsb.layout`.

What is used together (`Affinity`, `Trace`) becomes a cost of positions (`Linear`, `Log`, `Cut`, `Dirty`), which
`optimize` descends along to a `Layout`; `relayout` moves a state's pages there. `locality` says how local accesses are.
`rewrite` finds another graph for the same contents, with fewer edges.
"""

from ._affinity import Affinity
from ._descent import Descent, DescentState
from ._layout import Layout, relayout
from ._locality import Locality, entropy, locality
from ._objective import Cut, Dirty, Linear, Log, Objective, Pairs
from ._observe import Observed
from ._optimize import Optimized, optimize
from ._report import LayoutReport
from ._rewrite import RewriteReport, Rewritten, rewrite
from ._trace import Trace

__all__ = [
    "Affinity",
    "Cut",
    "Descent",
    "DescentState",
    "Dirty",
    "Layout",
    "LayoutReport",
    "Linear",
    "Locality",
    "Log",
    "Objective",
    "Observed",
    "Optimized",
    "Pairs",
    "RewriteReport",
    "Rewritten",
    "Trace",
    "entropy",
    "locality",
    "optimize",
    "relayout",
    "rewrite",
]
