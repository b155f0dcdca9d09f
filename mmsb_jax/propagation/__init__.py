"""Layer 4: propagation.

Changes spread in two ways: `matmul` and `closure` take a sparse operator to a vector, in any semiring; a wave
(`propagate`) lets pages recompute themselves by their rules; `values_after` is the same as a function that can be
differentiated. `tick` applies deltas, runs the wave and looks at invariants, as one function; a `CommandBuffer` takes
deltas from jitted code to the host.
"""

from ._closure import Closure, closure
from ._commands import CommandBuffer, drain
from ._invariant import Invariant
from ._matmul import Selected, matmul
from ._matrices import coalesce, ewise_add, ewise_multiply, reduce, restrict, sparse_product, to_dense, to_scipy
from ._paths import (
    Paths,
    all_pairs,
    breadth_first_levels,
    critical_path,
    k_step,
    most_reliable_paths,
    path_to,
    paths,
    reachable,
    shortest_paths,
    widest_paths,
)
from ._plan import RuleGraph
from ._reach import pages_needed
from ._rule import Rule, Term
from ._sparse import SparseMatrix
from ._tick import Ticked, tick
from ._timed import TickTimes, timed_tick
from ._values import values_after
from ._wave import Propagated, WaveReport, propagate

__all__ = [
    "Closure",
    "CommandBuffer",
    "Invariant",
    "Paths",
    "Propagated",
    "Rule",
    "RuleGraph",
    "Selected",
    "SparseMatrix",
    "Term",
    "TickTimes",
    "Ticked",
    "WaveReport",
    "all_pairs",
    "breadth_first_levels",
    "closure",
    "coalesce",
    "critical_path",
    "drain",
    "ewise_add",
    "ewise_multiply",
    "k_step",
    "matmul",
    "most_reliable_paths",
    "pages_needed",
    "path_to",
    "paths",
    "propagate",
    "reachable",
    "reduce",
    "restrict",
    "shortest_paths",
    "sparse_product",
    "tick",
    "timed_tick",
    "to_dense",
    "to_scipy",
    "values_after",
    "widest_paths",
]
