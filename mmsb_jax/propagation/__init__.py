"""Layer 4: propagation.

Changes spread in two ways: `matmul` and `closure` take a sparse operator to a vector, in any semiring; a wave
(`propagate`) lets pages recompute themselves by their rules. `tick` applies deltas and runs the wave, as one function.
"""

from ._closure import Closure, closure
from ._matmul import matmul
from ._reach import pages_needed
from ._rule import Rule, RuleGraph, Term
from ._sparse import SparseMatrix
from ._tick import Ticked, tick
from ._wave import Propagated, WaveReport, propagate

__all__ = [
    "Closure",
    "Propagated",
    "Rule",
    "RuleGraph",
    "SparseMatrix",
    "Term",
    "Ticked",
    "WaveReport",
    "closure",
    "matmul",
    "pages_needed",
    "propagate",
    "tick",
]
