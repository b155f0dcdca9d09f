"""`optimize`: from what is used together to a layout, and a report that is honest about what it gains."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance, whole_number
from ..physical import State, page_words_of
from ._advise import pairs_payback
from ._affinity import Affinity
from ._baselines import BASELINES
from ._coarse import Coarse, hierarchy
from ._descent import Descent, falling_adam
from ._layout import Layout
from ._moves import improve
from ._objective import Cut, Dirty, Linear, Log, Objective, Pairs, as_objective
from ._report import LayoutReport
from ._swaps import exchange
from ._trace import Trace

__all__ = ["Optimized", "optimize"]

_SMALL = 4096
"""Up to so many pages, many descents from random orders cost less than a second."""
_STARTS, _REFINED = 32, 8
_COARSEST = 20_000
_ROUNDS, _ROUNDS_SMALL, _ROUNDS_FINE = 1000, 500, 300
_WORK = 1.5e8
_MOVE_ROUNDS = 3
_EXCHANGES = 300


class Optimized(NamedTuple):
    """What `optimize` returns.

    >>> optimize(Affinity([0], [2], num_pages=3)).layout
    Layout(3 pages)
    """

    layout: Layout
    report: LayoutReport


def optimize(
    source: Any,
    *,
    objective: Objective | str | Any = "linear",
    block: int | Any = 64,
    shards: int | Any = 8,
    present: Layout | Any | None = None,
    budget: float | Any = 1.0,
    key: int | jax.Array | Any = 0,
    page_bytes: int | Any | None = None,
    progress: Callable[[str], object] | None = None,
) -> Optimized:
    """Find a layout that keeps together what is used together.

    Pages move along a line all at once, down a smoothed cost (`Descent`): small graphs from many random orders, large
    ones first as coarse graphs, then finer. Then exact moves: for the linear cost whole windows are put in their best
    order, for the others pages are exchanged between blocks. What is returned is the best of all that was found, by the
    exact cost: never worse than the present layout, or than any baseline (by id, hotness, reverse Cuthill-McKee,
    spectral, METIS where `pymetis` is installed), which the moves may begin with.

    **Arguments**

    - `source`: a `ShadowPageGraph`, `SparseMatrix`, SciPy matrix, `Trace`, `Observed` or `Affinity`; or a `State`, for
      which pages that were last changed in one tick are used together.
    - `objective`: "linear", "log", "cut", "dirty", or an `Objective`.
    - `block`: slots in a block, for "log" and "dirty"; `shards`: for "cut".
    - `present`: the layout that there is: unless given, that of a `State`; otherwise each page in the slot of its id.
    - `budget`: how long to descend, 1 by default; time is in proportion.
    - `key`: a whole number, or a key of `jax.random`; the same gives the same layout.
    - `page_bytes`: if given, it is measured on this device how long it takes to read pages of that size pair by pair,
      before and after, for the report's `payback`.
    - `progress`: called with a line of text now and then, such as `print`.

    **Returns:** `Optimized(layout, report)`.

    Raises `InvalidTypeError`, `InvalidArgumentError`.

    >>> chain = np.random.default_rng(0).permutation(32)
    >>> found = optimize(Affinity(chain[:-1], chain[1:], num_pages=32))
    >>> found.report.costs["present"], found.report.cost
    (377.0, 31.0)
    """
    start = time.perf_counter()
    affinity = Affinity.of(source)
    goal = as_objective(objective, block, shards)
    if isinstance(goal, Dirty) and goal.trace is None and isinstance(source, Trace | State):
        goal = Dirty(goal.block, source if isinstance(source, Trace) else Trace.of(source))
    if present is None and isinstance(source, State):
        present = Layout.of(source)
    seed, strength = _checked(key, budget)
    now = Layout.identity(affinity.num_pages) if present is None else present
    require_instance(now, Layout, "Layout.of(state) is the one that a state has")
    if len(now) != affinity.num_pages:
        raise InvalidArgumentError(f"got a present layout of {len(now)} pages for a source of {affinity.num_pages}")
    say = progress or (lambda _: None)
    found: dict[str, np.ndarray] = {"present": now.page_of_slot}
    for name, make in BASELINES.items() if affinity.num_pages else ():
        say(f"baseline: {name}")
        if (order := make(affinity, _part(goal, block, affinity.num_pages))) is not None:
            found[name] = order
    cost = partial(_cost, goal, affinity)
    costs = {name: cost(order) for name, order in found.items()}
    if affinity.pairs:
        found["descent"] = _descended(affinity, goal, seed, strength, say)
        costs["descent"] = cost(found["descent"])
        say("exact moves")
        best = _best(costs)
        moved = _improved(affinity, goal, found[best], seed, strength)
        if cost(moved) < costs[best]:
            found["descent"], costs["descent"] = moved, cost(moved)
    best = _best(costs)
    layout = now if best == "present" else Layout.in_order(found[best])
    spent = time.perf_counter() - start
    payback = None if page_bytes is None else pairs_payback(affinity, now, layout, page_words_of(page_bytes), spent)
    report = LayoutReport(
        objective=goal.name,
        pages=affinity.num_pages,
        pairs=affinity.pairs,
        costs=costs,
        best=best,
        seconds=time.perf_counter() - start,
        missing=tuple(name for name in BASELINES if name not in found and affinity.num_pages),
        payback=payback,
        layouts={name: Layout.in_order(order) for name, order in found.items()},
    )
    return Optimized(layout, report)


def _checked(key: Any, budget: Any) -> tuple[int, float]:
    seed = _seed(key)
    if seed is None or seed < 0:
        raise InvalidTypeError(f"got key={key!r}; pass a whole number from 0 on, or a key of jax.random")
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget < np.inf:
        raise InvalidArgumentError(f"got budget={budget!r}; pass a number greater than 0")
    return seed, float(budget)


def _seed(key: Any) -> int | None:
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
        key = jax.random.key_data(key)
    if isinstance(key, jax.Array | np.ndarray) and key.dtype == jnp.uint32 and key.ndim == 1:
        return int.from_bytes(np.asarray(key).tobytes(), "little")
    return whole_number(key)


def _best(costs: dict[str, float]) -> str:
    return min(costs, key=lambda name: (costs[name], name != "present"))


def _improved(affinity: Affinity, goal: Objective, order: np.ndarray, seed: int, budget: float) -> np.ndarray:
    """The order after exact moves, where there are any for the objective. It may be worse."""
    if isinstance(goal, Linear):
        return improve(affinity, order, _MOVE_ROUNDS if affinity.num_pages <= _COARSEST else 1)
    slots = Layout.in_order(order).slot_of_page
    if isinstance(goal, Log | Dirty):
        part = slots // goal.block
    elif isinstance(goal, Cut):
        part = goal.shard(slots)
    else:
        return order
    rounds = max(1, round(budget * min(_EXCHANGES, _WORK / max(affinity.pairs, 1))))
    part = exchange(affinity, part.astype(np.int64), rounds, seed)
    return np.lexsort([slots, part]).astype(np.int32)


def _part(objective: Objective, block: Any, pages: int) -> int:
    """Of how many pages METIS is to make parts."""
    if isinstance(objective, Log | Dirty):
        return objective.block
    if isinstance(objective, Cut):
        return max(1, -(-pages // objective.shards))
    return int(block)


def _cost(objective: Objective, affinity: Affinity, order: np.ndarray) -> float:
    slots = np.empty(len(order), np.int32)
    slots[order] = np.arange(len(order), dtype=np.int32)
    return objective.cost(affinity, slots)


def _descended(
    affinity: Affinity, goal: Objective, seed: int, budget: float, say: Callable[[str], object]
) -> Int32[np.ndarray, " pages"]:
    """The order that descents come to, of the pages that are used with others; the rest behind them."""
    used = np.unique(np.concatenate([affinity.one, affinity.other]))
    place = np.zeros(affinity.num_pages, np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    core = Affinity(place[affinity.one], place[affinity.other], affinity.weight, num_pages=len(used))
    rng = np.random.default_rng(seed)
    alone = np.ones(affinity.num_pages, np.bool_)
    alone[used] = False

    def whole(order: np.ndarray) -> Int32[np.ndarray, " pages"]:
        return np.concatenate([used[order], np.flatnonzero(alone)]).astype(np.int32)

    if core.num_pages <= _SMALL:
        # Costs are those of all pages: an objective may know of pages by their ids.
        return whole(_from_many(core, goal, rng, budget, lambda order: _cost(goal, affinity, whole(order))))
    return whole(_multilevel(core, goal, rng, budget, say))


def _from_many(
    affinity: Affinity,
    goal: Objective,
    rng: np.random.Generator,
    budget: float,
    cost: Callable[[np.ndarray], float],
) -> np.ndarray:
    """The best of many descents side by side."""
    starts = np.stack([rng.permutation(affinity.num_pages) for _ in range(_STARTS)]).astype(np.float32)
    rounds = max(1, round(_ROUNDS_SMALL * budget))
    descent = Descent(goal, pages=affinity.num_pages, rounds=rounds)
    ends = np.asarray(_run_many(descent, jnp.asarray(starts), Pairs.of(affinity)))
    found = np.argsort(ends, axis=1, kind="stable").astype(np.int32)
    orders = sorted(found, key=cost)[:_REFINED]
    if isinstance(goal, Linear):
        orders = [improve(affinity, order, _MOVE_ROUNDS) for order in orders]
    return min(orders, key=cost)


def _multilevel(
    affinity: Affinity, goal: Objective, rng: np.random.Generator, budget: float, say: Callable[[str], object]
) -> np.ndarray:
    """A coarse order first, then finer ones that begin with it."""
    levels = hierarchy(affinity, _COARSEST, seed=int(rng.integers(2**31)))
    graphs = [affinity, *(level.affinity for level in levels)]
    coarsest = graphs[-1]
    say(f"descent of {coarsest.num_pages} pages")
    rounds = max(1, round(_rounds(coarsest, _ROUNDS) * budget))
    order = _descend(coarsest, _shrunk(goal, coarsest, affinity), rng.permutation(coarsest.num_pages), rounds, None)
    for finer, level in zip(reversed(graphs[:-1]), reversed(levels), strict=True):
        say(f"descent of {finer.num_pages} pages")
        start = _unfolded(order, level, rng)
        rounds = max(1, round(_rounds(finer, _ROUNDS_FINE) * budget))
        order = _descend(finer, _shrunk(goal, finer, affinity), start, rounds, 0.03)
    return order


def _rounds(affinity: Affinity, most: int) -> int:
    return int(np.clip(_WORK / max(affinity.pairs + affinity.num_pages, 1), 100, most))


def _unfolded(order: np.ndarray, level: Coarse, rng: np.random.Generator) -> np.ndarray:
    """Slots of the finer pages: those of one coarse page side by side."""
    slot = np.empty(len(order))
    slot[order] = np.arange(len(order))
    fine = np.argsort(slot[level.of_page] + 0.9 * rng.random(len(level.of_page)), kind="stable")
    slots = np.empty(len(fine))
    slots[fine] = np.arange(len(fine))
    return slots


def _descend(affinity: Affinity, goal: Objective, slots: np.ndarray, rounds: int, rate: float | None) -> np.ndarray:
    """The order that one descent comes to. With a `rate`, a part of the pages, it is gentle: it keeps what it has."""
    pages = affinity.num_pages
    if rate is None:
        descent = Descent(goal, pages=pages, rounds=rounds)
    else:
        descent = Descent(_Gentle(goal), pages=pages, rounds=rounds, optimizer=falling_adam(rate * pages, rounds))
    ends = _run(descent, jnp.asarray(slots, jnp.float32), Pairs.of(affinity))
    return np.argsort(np.asarray(ends), kind="stable")


class _Gentle(Objective):
    """The same cost, smoothed less to begin with."""

    goal: Objective

    @property
    def name(self) -> str:
        return self.goal.name

    def between(self, x: Array, other: Array, scale: Array) -> Array:
        return self.goal.between(x, other, scale)

    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        return self.goal.cost(affinity, slot_of_page)

    def scales(self, pages: int) -> tuple[float, float]:
        _, last = self.goal.scales(pages)
        return max(pages / 100, last), last


def _shrunk(goal: Objective, coarse: Affinity, finest: Affinity) -> Objective:
    """The objective with blocks as much smaller as there are fewer pages."""
    if isinstance(goal, Log | Dirty):
        return type(goal)(max(1, goal.block * coarse.num_pages // finest.num_pages))
    return goal


@jax.jit
def _run(descent: Descent, positions: Float32[Array, " pages"], pairs: Pairs) -> Float32[Array, " pages"]:
    def round_(_: Array, state: Any) -> Any:
        return descent.update(state, pairs)

    found: Array = jax.lax.fori_loop(0, descent.rounds, round_, descent.init(positions)).positions
    return found


@jax.jit
def _run_many(descent: Descent, positions: Float32[Array, "starts pages"], pairs: Pairs) -> Array:
    return jax.vmap(lambda start: _run(descent, start, pairs))(positions)
