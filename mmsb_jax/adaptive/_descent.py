"""The descent: pages move along a line, all at once, pulled together by whom they are used with.

Minimising Σ w·√(d² + ε²) over positions alone would draw all pages into one point; a pull towards each position's rank
keeps them spread out. The rank is read off a histogram, which costs a sixteenth of sorting a million positions.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32, Int32

from ._layout import Layout
from ._objective import Objective, Pairs

__all__ = ["Descent", "DescentState", "falling_adam", "ranks"]

_STEPS = 8  # between two pulls; to pull each time takes twice as long and comes to nothing better


class DescentState(eqx.Module):
    """Where a descent stands: a pytree.

    >>> Descent(Linear(), pages=3, rounds=10).init([2, 0, 1]).positions
    Array([2., 0., 1.], dtype=float32)
    """

    positions: Float32[Array, " pages"]
    optimizer: Any
    """What the `optax` transformation remembers."""
    round: Int32[Array, ""]


class Descent(eqx.Module):
    """Minimise an objective over positions, as `init` and `update`, to be used inside one's own jitted code.

    **Arguments**

    - `objective`
    - `pages`: how many there are.
    - `rounds`: how many `update`s lead from the first scale to the last; more are made at the last.
    - `optimizer`: any `optax.GradientTransformation`. None: Adam, with a rate that falls from a tenth of the pages to a
      tenth of a slot.
    - `pull`: which part of its way to its rank a page goes in each of the 8 steps of an update.

    >>> shuffled = np.random.default_rng(0).permutation(64)
    >>> chain = Affinity(shuffled[:-1], shuffled[1:], num_pages=64)
    >>> pairs = Pairs.of(chain)
    >>> descent = Descent(Linear(), pages=64, rounds=200)
    >>> state = descent.init(np.arange(64))
    >>> state, _ = jax.lax.scan(lambda state, _: (descent.update(state, pairs), None), state, length=200)
    >>> Linear().cost(chain, descent.order(state).slot_of_page)
    63.0
    """

    objective: Objective
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    pages: int = eqx.field(static=True)
    rounds: int = eqx.field(static=True)
    pull: float = eqx.field(static=True)

    def __init__(
        self,
        objective: Objective,
        *,
        pages: int,
        rounds: int,
        optimizer: optax.GradientTransformation | None = None,
        pull: float = 0.01,
    ) -> None:
        """See above."""
        self.objective, self.pages, self.rounds, self.pull = objective, pages, rounds, pull
        self.optimizer = falling_adam(0.1 * max(pages, 1), rounds) if optimizer is None else optimizer

    def init(self, positions: Any) -> DescentState:
        """Begin at these positions: numbers [pages], such as the slots of a layout."""
        start = jnp.asarray(positions, jnp.float32)
        return DescentState(start, self.optimizer.init(start), jnp.zeros((), jnp.int32))

    def scale(self, step: Array) -> Array:
        """How far the cost is smoothed at a step: from the objective's first scale to its last, geometrically."""
        first, last = self.objective.scales(self.pages)
        done = jnp.minimum(step.astype(jnp.float32) / max(_STEPS * self.rounds - 1, 1), 1.0)
        return jnp.float32(first) * jnp.float32(last / first) ** done

    def update(self, state: DescentState, pairs: Pairs) -> DescentState:
        """Eight steps of the optimiser, then the pull."""

        def step(k: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
            positions, memory = carry
            slope = self.objective.slope(positions, pairs, self.scale(state.round * _STEPS + k))
            with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic needs it, whatever the user has set
                moves, memory = self.optimizer.update(slope, memory, positions)
            return positions + moves, memory

        positions, memory = jax.lax.fori_loop(0, _STEPS, step, (state.positions, state.optimizer))
        part = 1 - (1 - self.pull) ** _STEPS
        return DescentState(positions + part * (ranks(positions) - positions), memory, state.round + 1)

    def order(self, state: DescentState) -> Layout:
        """The layout in which pages lie in the order of their positions."""
        return Layout.in_order(np.argsort(np.asarray(state.positions), kind="stable"))


@functools.lru_cache(64)
def falling_adam(first: float, rounds: int) -> optax.GradientTransformation:
    """Adam with a rate that falls geometrically to a tenth of a slot. Made once: another one would compile anew."""
    return optax.adam(optax.exponential_decay(first, _STEPS * rounds, 0.1 / first, end_value=0.1))


def ranks(positions: Float32[Array, " pages"]) -> Float32[Array, " pages"]:
    """About how many positions are less than each: by a histogram of as many bins, and linear in between.

    >>> ranks(jnp.float32([0, 10, 20, 30]))
    Array([0., 1., 2., 3.], dtype=float32)
    """
    count = positions.shape[0]
    low, high = jnp.min(positions), jnp.max(positions)
    place = (positions - low) * ((count - 1) / jnp.maximum(high - low, 1e-6))
    bin_of = jnp.clip(place.astype(jnp.int32), 0, count - 1)
    inside = jnp.zeros(count, jnp.int32).at[bin_of].add(1)  # integers: the same in any order
    below = jnp.cumsum(inside) - inside
    further = jnp.clip(place - bin_of.astype(jnp.float32), 0, 1)
    return below[bin_of].astype(jnp.float32) + inside[bin_of].astype(jnp.float32) * further
