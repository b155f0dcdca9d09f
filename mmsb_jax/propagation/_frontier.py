"""The compacted frontier: relax what leads out of the rows that changed, and nothing else.

A sweep looks at every entry, which is right while much changes. Where little does (a grid, a road network), a list of
the rows that changed is kept instead, and only the entries of their columns are combined into the rows that they lead
to, a window of some hundred columns at a time:

    list       near c0 c1 c2 …  |  far c7 c8 …       columns whose rows changed, a ring and a heap
    window     row[c], value[c]                      the entries of the next columns of near, [columns, width]
    relax      y[row] ⊕= value ⊗ y[c]                by a scatter of ⊕, exact in any order
    append     each row that got better, once, to near if its value is up to `bound`, else to far
    advance    near is empty: raise the bound past the best value of far, and move what is up to it

This is the near-far method (Davidson, Baxter, Garland, Owens, "Work-efficient parallel GPU methods for single-source
shortest paths", IPDPS 2014, section 4), a simple form of delta-stepping (Meyer, Sanders, Journal of Algorithms 49,
2003): on a weighted grid it relaxes a column 1.3 times, where a plain queue does so 5 times. Since ⊗ is monotone, also
when it rounds, any order of relaxing comes to the same fixpoint, bit for bit. What doesn't fit the lists, and a column
with too many entries, is left to a sweep, which needs to know nothing about the frontier.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int32, Shaped

from .._device import on_device
from ..graph._traverse import group
from ..semiring import Semiring
from ._parents import entries_of
from ._sparse import SparseMatrix

WINDOW = 1024  # Entries taken at a time: half as many cost nearly as much to launch, twice as many are rarely there.
WIDEST = 32  # Entries of a column, at most, for it to be pushed.
STRIDE = 3  # How far the bound goes at a time, in mean weights: 1 … 4 differ by 10 % on weighted grids.
STAMPS = 2**31 // WINDOW - 1  # As many windows as a mark can tell apart.


class Outgoing(eqx.Module):
    """The entries of a matrix by column, up to `width` of each; a column with more is `long`, and has none here."""

    row: Int32[Array, "columns width"]
    """Where there is no entry: the number of rows."""
    value: Shaped[Array, "columns width"] | None
    long: Bool[Array, " rows_and_one"] | None
    stride: Shaped[Array, ""]


class Frontier(NamedTuple):
    """What changed. `near` lies at list[head … tail] modulo the capacity, `far` at list[capacity … capacity + far]."""

    y: Shaped[Array, " n_and_one"]
    """Behind the last row a value that nothing improves, for places without an entry."""
    mark: Int32[Array, " n_and_one"]
    list: Int32[Array, " twice_the_capacity"]
    bound: Shaped[Array, ""]
    counts: Int32[Array, " 4"]
    """head, tail, far, and how many windows have been taken; together, since each scalar is a launch of its own."""
    lost: Bool[Array, ""]
    """Whether a column came up that is long, and a sweep has to follow."""


def outgoing(matrix: SparseMatrix) -> Outgoing | None:
    """Laid out on the host once, and kept beside the matrix; None if it is traced."""
    held = matrix.block_values
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((matrix.slot, held))):
        return None
    known: Outgoing | None = matrix.__dict__.get("_outgoing")
    if known is None:
        with jax.ensure_compile_time_eval():
            known = _lay_out(matrix)
        object.__setattr__(matrix, "_outgoing", known)
    return known


def _lay_out(matrix: SparseMatrix) -> Outgoing:
    rows, columns = matrix.shape
    entries = entries_of(matrix)
    start, order = group(np.asarray(entries.col), columns)
    degree = np.diff(start)
    widest = min(WIDEST, 2 * matrix.entries / max(1, columns), degree.max(initial=1))
    width = int(2 ** np.ceil(np.log2(max(1, widest))))
    nth = np.arange(width)
    there = (nth < degree[:, None]) & (degree <= width)[:, None]
    entry = order[np.where(there, start[:-1, None] + nth, 0)]
    long = np.append(degree > width, False)
    value, stride = None, np.float32(STRIDE)
    if entries.value is not None:
        held = np.asarray(entries.value)
        usual = np.abs(held[np.isfinite(held)].astype(np.float64))
        stride = (STRIDE * usual.mean() if usual.size else np.float64(0)).astype(held.dtype)
        value = on_device(held[entry])
    row = on_device(np.where(there, np.asarray(entries.row)[entry], rows), np.int32)
    return Outgoing(row, value, on_device(long) if long.any() else None, on_device(np.asarray(stride)))


def listed(edges: Outgoing, moving: Bool[Array, " n"], y: Shaped[Array, " n"], capacity: int, add: Any) -> Frontier:
    """A frontier of the rows that move, all near; there must be room for them."""
    position = jnp.cumsum(moving, dtype=jnp.int32)
    place = jnp.where(moving, position - 1, 2 * capacity)
    rows = jnp.zeros(2 * capacity, jnp.int32).at[place].set(jnp.arange(len(y), dtype=jnp.int32), mode="drop")
    bound = _past(add.fold(jnp.where(moving, y, jnp.asarray(add.identity(y.dtype)))), edges, add)
    counts = jnp.zeros(4, jnp.int32).at[1].set(position[-1])
    y = jnp.append(y, _best(y.dtype, add))
    return Frontier(y, jnp.zeros(len(y), jnp.int32), rows, bound, counts, jnp.bool_(False))


def _best(dtype: Any, add: Any) -> Array:
    limits = (-np.inf, np.inf) if jnp.issubdtype(dtype, jnp.floating) else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    return jnp.asarray(limits[add.scatter(dtype) == "max"], dtype)


def _past(best: Array, edges: Outgoing, add: Any) -> Array:
    """The next bound; never better than `best`, even if it wraps."""
    stride = edges.stride.astype(best.dtype)
    if add.scatter(best.dtype) == "min":
        return jnp.maximum(best, best + stride)
    return jnp.minimum(best, best - stride)


def drain(edges: Outgoing, frontier: Frontier, semiring: Semiring, budget: Int32[Array, ""]) -> Frontier:
    """Relax until nothing changes, something doesn't fit, or `budget` windows are used up."""

    def near(f: Frontier) -> Array:
        head, tail, _, windows = f.counts
        return (head < tail) & fits(f) & (windows < budget)

    def far(f: Frontier) -> Array:
        head, tail, far, windows = f.counts
        return (head == tail) & (far > 0) & fits(f) & (windows < budget)

    def step(f: Frontier) -> Frontier:
        f = lax.while_loop(near, lambda f: _relax(edges, f, semiring), f)
        return lax.while_loop(far, lambda f: _advance(edges, f, semiring.add), f)

    return lax.while_loop(near, step, frontier)


def fits(f: Frontier) -> Bool[Array, ""]:
    """Whether nothing has been lost."""
    head, tail, far, _ = f.counts
    capacity = len(f.list) // 2
    return (tail - head <= capacity) & (far <= capacity) & ~f.lost


def _relax(edges: Outgoing, f: Frontier, semiring: Semiring) -> Frontier:
    """One window of near. What stands behind its tail has been there before: to relax it again does no harm."""
    add, y, width = semiring.add, f.y, edges.row.shape[1]
    columns, capacity = WINDOW // width, len(f.list) // 2
    head, tail, far, windows = f.counts
    column = _take(f.list, (head + jnp.arange(columns, dtype=jnp.int32)) % capacity)
    row = edges.row[column].reshape(-1)
    own = jnp.repeat(_take(y, column), width)
    weight = semiring.full(own.shape, "one", y.dtype) if edges.value is None else edges.value[column].reshape(-1)
    old = _take(y, row)
    reached = add(old, semiring.multiply(weight, own))
    better = reached != old
    y = getattr(y.at[row], str(add.scatter(y.dtype)))(reached, mode="promise_in_bounds")
    value = _take(y, row)
    mark, rows, gained = _append(f, row, better, add(value, f.bound) == value)
    lost = f.lost if edges.long is None else f.lost | jnp.any(better & _take(edges.long, row))
    head = jnp.minimum(head + columns, tail)
    return Frontier(y, mark, rows, f.bound, jnp.stack([head, tail + gained[0], far + gained[1], windows + 1]), lost)


def _append(f: Frontier, row: Any, wanted: Any, near: Any) -> tuple[Array, Array, Array]:
    """List each of the rows that is wanted, once. Returns marks, lists, and how many went to near and to far."""
    capacity = len(f.list) // 2
    _, tail, far, windows = f.counts
    stamp = windows * WINDOW + jnp.arange(1, WINDOW + 1, dtype=jnp.int32)
    mark = f.mark.at[row].max(jnp.where(wanted, stamp, 0), mode="promise_in_bounds")
    chosen = wanted & (_take(mark, row) == stamp)  # of the places that reach a row, the last lists it
    before, gained = _ranks(chosen, near)
    place = jnp.where(near, (tail + before[0]) % capacity, capacity + far + before[1])
    rows = f.list.at[jnp.where(chosen, place, 2 * capacity)].set(row, mode="drop")
    return mark, rows, gained


def _advance(edges: Outgoing, f: Frontier, add: Any) -> Frontier:
    """Near is empty: raise the bound, and fill near from far. What is up to the old bound has been near since."""
    capacity, worst = len(f.list) // 2, jnp.asarray(add.identity(f.y.dtype))
    far, begin = f.counts[2], jnp.int32(0)

    def waiting(into: Frontier, begin: Array) -> tuple[Array, Array, Array]:
        nth = begin + jnp.arange(WINDOW, dtype=jnp.int32)
        row = _take(into.list, capacity + jnp.minimum(nth, capacity - 1))
        value = _take(into.y, row)
        return row, value, (nth < far) & (add(value, f.bound) != value)

    def look(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        begin, best = carry
        _, value, waits = waiting(f, begin)
        return begin + WINDOW, add(best, add.fold(jnp.where(waits, value, worst)))

    _, best = lax.while_loop(lambda carry: carry[0] < far, look, (begin, worst))
    bound = _past(best, edges, add)

    def move(carry: tuple[Frontier, Array]) -> tuple[Frontier, Array]:
        into, begin = carry
        row, value, waits = waiting(into, begin)
        mark, rows, gained = _append(into, row, waits, add(value, bound) == value)
        head, tail, kept, windows = into.counts
        counts = jnp.stack([head, tail + gained[0], kept + gained[1], windows + 1])
        return into._replace(mark=mark, list=rows, counts=counts), begin + WINDOW

    head = f.counts[0] % capacity
    empty = f._replace(counts=jnp.stack([head, head, jnp.int32(0), f.counts[3]]))
    moved, _ = lax.while_loop(lambda carry: carry[1] < far, move, (empty, begin))
    return moved._replace(bound=bound)


def _take(array: Array, index: Array) -> Array:
    return array.at[index].get(mode="promise_in_bounds")


def _ranks(chosen: Any, near: Any) -> tuple[Int32[Array, "2 window"], Int32[Array, " 2"]]:
    """Of near and far, how many are chosen before each, and in all.

    Two small products, several times faster than a running sum; both counts are in one number that float32 holds.
    """
    side, base = 32, 2048
    code = jnp.where(chosen, jnp.where(near, 1, base), 0).astype(jnp.float32).reshape(-1, side)
    up_to = code @ jnp.asarray(np.triu(np.ones((side, side), np.float32)))
    above = jnp.asarray(np.tril(np.ones((len(code), len(code)), np.float32), -1)) @ up_to[:, -1:]
    before = (up_to - code + above).reshape(-1).astype(jnp.int32)
    total = (above[-1, 0] + up_to[-1, -1]).astype(jnp.int32)
    return jnp.stack([before % base, before // base]), jnp.stack([total % base, total // base])
