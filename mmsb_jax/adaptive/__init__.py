"""Layer 5: memory that lays itself out. Public as `mmsb.layout`.

What is used together (`Affinity`, `Trace`) becomes a cost of positions (`Linear`, `Log`, `Cut`, `Dirty`), which
`optimize` descends along to a `Layout`; `relayout` moves a state's pages there; `advise` measures whether waves would
gain by it. `locality` says how local accesses are. `rewrite` finds another graph with fewer edges for the same
contents.
"""

from ._advise import advise
from ._affinity import Affinity
from ._clusters import Clusters, clusters
from ._descent import Descent, DescentState
from ._layout import Layout, relayout
from ._locality import Locality, entropy, locality
from ._objective import Cut, Dirty, Linear, Log, Objective, Pairs
from ._observe import Observed
from ._optimize import Optimized, optimize
from ._policy import Decision, Policy
from ._report import LayoutReport, Payback
from ._rewrite import RewriteReport, Rewritten, rewrite
from ._trace import Trace

__all__ = [
    "Affinity",
    "Clusters",
    "Cut",
    "Decision",
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
    "Payback",
    "Policy",
    "RewriteReport",
    "Rewritten",
    "Trace",
    "advise",
    "clusters",
    "entropy",
    "locality",
    "optimize",
    "relayout",
    "rewrite",
]
