"""What has to hold of a state after every tick, looked at inside the tick."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._errors import InvalidTypeError
from ..physical import State

__all__ = ["Invariant", "broken"]


class Invariant(eqx.Module):
    """A named condition on a state, for `tick(…, invariants=[…])`. Static: it passes through `jit` like any argument.

    **Arguments:**

    - `name`: for messages.
    - `holds`: a jittable function from a `State` to a bool, or an array of them, all of which are to be true.

    **Raises:** `InvalidTypeError` when `holds` is no function; `tick` raises it when it doesn't return bools.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> from mmsb_jax.propagation import Invariant
    >>> solvent = Invariant("no account is overdrawn", lambda state: state.view(jnp.int32)[:, 0] >= 0)
    >>> state = mmsb.State.create(2, page_bytes=4)
    >>> deltas = mmsb.DeltaBatch.make(state, [1], jnp.array([[-5]], jnp.int32))
    >>> mmsb.tick(state, None, deltas, invariants=[solvent]).broken
    Array([ True], dtype=bool)

    ```
    """

    name: str = eqx.field(static=True)
    holds: Callable[[State], Any] = eqx.field(static=True)

    def __init__(self, name: str, holds: Callable[[State], Any] | Any) -> None:
        if not callable(holds):
            raise InvalidTypeError(f"invariant {name!r} needs a function from a State to bools; got {holds!r}")
        self.name, self.holds = name, holds


def broken(state: State, invariants: Sequence[Invariant] | Any) -> Bool[Array, " invariants"]:
    """Which of them don't hold. Raises `InvalidTypeError` for what is no invariant.

    ```python
    >>> import mmsb_jax as mmsb
    >>> broken(mmsb.State.create(2), [Invariant("time stands still", lambda state: state.tick == 0)])
    Array([False], dtype=bool)

    ```
    """
    found = []
    for invariant in invariants:
        if not isinstance(invariant, Invariant):
            raise InvalidTypeError(f"got a {type(invariant).__name__}; pass Invariant(name, holds)")
        held = invariant.holds(state)
        if getattr(held, "dtype", None) != jnp.bool_ and not isinstance(held, bool):
            shown = f"{held.dtype}{list(held.shape)}" if isinstance(held, jax.Array) else type(held).__name__
            raise InvalidTypeError(f"invariant {invariant.name!r} returned {shown}; it must return bools")
        found.append(~jnp.all(jnp.asarray(held)))
    return jnp.stack(found) if found else jnp.zeros(0, jnp.bool_)
