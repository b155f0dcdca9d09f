"""Layer 4: propagation.

Changes spread in two ways: `matmul` and `closure` take a sparse operator to a vector, in any semiring; a wave
(`propagate`) lets pages recompute themselves by their rules. `tick` applies deltas and runs the wave, as one function.
"""

from ._closure import Closure, closure
from ._matmul import Selected, matmul
from ._matrices import coalesce, ewise_add, ewise_multiply, reduce, restrict, sparse_product, to_dense, to_scipy
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
    "Selected",
    "SparseMatrix",
    "Term",
    "Ticked",
    "WaveReport",
    "closure",
    "coalesce",
    "ewise_add",
    "ewise_multiply",
    "matmul",
    "pages_needed",
    "propagate",
    "reduce",
    "restrict",
    "sparse_product",
    "tick",
    "to_dense",
    "to_scipy",
]
