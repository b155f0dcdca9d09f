"""Layer 2: algebra.

A semiring says what "combine along a path" (⊗) and "choose among paths" (⊕) mean; everything that propagates along a
graph is written once, for any of them.

| name | ⊕ | ⊗ | zero | one | dtypes | y = A ⊗ x is then |
| --- | --- | --- | --- | --- | --- | --- |
| `min_plus` | min | + | ∞ | 0 | floating, int, uint | shortest path, one step |
| `max_plus` | max | + | −∞ | 0 | floating, int | earliest start, critical path |
| `plus_times` | + | × | 0 | 1 | floating, int, uint | sums, ordinary linear algebra |
| `max_times` | max | × | 0 | 1 | floating, int, uint; not negative | most reliable path |
| `min_times` | min | × | ∞ | 1 | floating, int, uint; positive | least gain along a path |
| `max_min` | max | min | −∞ | ∞ | floating, int, uint | widest path |
| `min_max` | min | max | ∞ | −∞ | floating, int, uint | path with the lowest summit |
| `or_and` | or | and | none | all | bool, uint (bit by bit: 32 sets in a word) | reachability |
| `xor_and` | xor | and | none | all | bool, uint (bit by bit) | GF(2): parity of the number of paths |
| `log_plus` | log(eᵃ + eᵇ) | + | −∞ | 0 | floating | sums of probabilities, from their logarithms |
| `any_pair` | any (the larger) | 1 | 0 | – | floating, int, uint | 1 where a row has an entry |
| `plus_pair` | + | 1 | 0 | – | floating, int, uint | how many entries |
| `min_first` | min | a | ∞ | – | floating, int, uint | least weight |
| `min_second` | min | b | ∞ | – | floating, int, uint | least value of a parent |

The last four are GraphBLAS's and no semirings: they say which laws they lack. `arg_min_plus`, `arg_max_plus`,
`arg_max_times`, `arg_min_times`, `arg_max_min`, `arg_min_max` also tell which term won (`arg` makes them).

**What the laws are claimed for** (the carrier). Floating `min_plus` takes finite numbers and +∞, `max_plus` finite
numbers and −∞: the other infinity is no element, since +∞ − ∞ has no value. NaN belongs to no carrier. Integers have no
infinity, so the end of the type plays it: in `min_plus` the highest value is `zero`, in `max_plus` the lowest (so none
is left for unsigned `max_plus`, where 0 is already `one`). It absorbs, and sums and products saturate at the ends of
the type instead of wrapping, as floats do; the laws hold for non-negative values without limit, and for sums of both
signs while no partial sum leaves the type. Integer `plus_times` is arithmetic modulo 2ⁿ, exactly. Floating + and ×
obey associativity and distributivity up to rounding, and so does `log_plus`.
"""

from ._algebra import LAWS, Semiring, arg
from ._laws import LawReport, LawResult, check_laws
from ._monoid import Monoid
from ._purity import PurityReport, check_purity
from ._standard import (
    any_pair,
    arg_max_min,
    arg_max_plus,
    arg_max_times,
    arg_min_max,
    arg_min_plus,
    arg_min_times,
    get,
    log_plus,
    max_min,
    max_plus,
    max_times,
    min_first,
    min_max,
    min_plus,
    min_second,
    min_times,
    or_and,
    plus_pair,
    plus_times,
    registered,
    xor_and,
)

__all__ = [
    "LAWS",
    "LawReport",
    "LawResult",
    "Monoid",
    "PurityReport",
    "Semiring",
    "any_pair",
    "arg",
    "arg_max_min",
    "arg_max_plus",
    "arg_max_times",
    "arg_min_max",
    "arg_min_plus",
    "arg_min_times",
    "check_laws",
    "check_purity",
    "get",
    "log_plus",
    "max_min",
    "max_plus",
    "max_times",
    "min_first",
    "min_max",
    "min_plus",
    "min_second",
    "min_times",
    "or_and",
    "plus_pair",
    "plus_times",
    "registered",
    "xor_and",
]
