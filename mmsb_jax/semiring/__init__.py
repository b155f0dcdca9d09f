"""Layer 2: algebra.

A semiring says what "combine along a path" (⊗) and "choose among paths" (⊕) mean; everything that propagates along a
graph is written once, for any of them.

| name | ⊕ | ⊗ | zero | one | dtypes | y = A ⊗ x is then |
| --- | --- | --- | --- | --- | --- | --- |
| `min_plus` | min | + | ∞ | 0 | floating, int, uint | shortest path, one step |
| `max_plus` | max | + | −∞ | 0 | floating, int | earliest start, critical path |
| `plus_times` | + | × | 0 | 1 | floating, int, uint | sums, ordinary linear algebra |
| `or_and` | or | and | none | all | bool, uint (bit by bit: 32 sets in a word) | reachability |

**What the laws are claimed for** (the carrier). Floating `min_plus` takes finite numbers and +∞, `max_plus` finite
numbers and −∞: the other infinity is no element, since +∞ − ∞ has no value. NaN belongs to no carrier. Integers have no
infinity, so the end of the type plays it: in `min_plus` the highest value is `zero`, in `max_plus` the lowest (so none
is left for unsigned `max_plus`, where 0 is already `one`). It absorbs, and sums saturate at the ends of the type
instead of wrapping, as floats do; the laws hold for non-negative values without limit, and for values of both signs
while no partial sum leaves the type. Integer `plus_times` is arithmetic modulo 2ⁿ, exactly. Floating + and × obey
associativity and distributivity up to rounding.
"""

from ._algebra import Monoid, Semiring
from ._laws import LawReport, LawResult, check_laws
from ._standard import get, max_plus, min_plus, or_and, plus_times, registered

__all__ = [
    "LawReport",
    "LawResult",
    "Monoid",
    "Semiring",
    "check_laws",
    "get",
    "max_plus",
    "min_plus",
    "or_and",
    "plus_times",
    "registered",
]
