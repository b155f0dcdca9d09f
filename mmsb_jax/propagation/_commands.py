"""The command buffer: deltas that jitted code leaves for the host.

jitted:   push ─▶ page, words, mask, source │ used ─▶      ring: "come and look"
host:     if buffer.rung: deltas, buffer = drain(buffer); bus.apply(deltas)
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int32, UInt32

from .._errors import InvalidDeltaError, InvalidTypeError
from .._require import require_capacity, require_instance
from ..page import DeltaBatch
from ..physical import State

__all__ = ["CommandBuffer", "drain"]


class CommandBuffer(eqx.Module):
    """Deltas queued inside jitted code, to be drained by the host when the bell was rung. A pytree of static size.

    Works in `scan` (as part of the carry), and under `vmap` (a buffer for each world).

    ```python
    >>> import mmsb_jax as mmsb, jax, jax.numpy as jnp
    >>> from mmsb_jax.propagation import CommandBuffer, drain
    >>> state = mmsb.State.create(4, page_bytes=4)
    >>> @jax.jit
    ... def simulate(buffer):
    ...     def step(buffer, i):
    ...         deltas = mmsb.DeltaBatch.make(state, i[None] % 3, 1.5 * i[None, None].astype(jnp.float32))
    ...         return buffer.push(deltas).ring(i == 2), None
    ...     return jax.lax.scan(step, buffer, jnp.arange(4, dtype=jnp.int32))[0]
    >>> buffer = simulate(CommandBuffer.create(state, capacity=8))
    >>> bool(buffer.rung), int(buffer.used)
    (True, 4)
    >>> deltas, buffer = drain(buffer)
    >>> mmsb.apply(state, deltas).view(jnp.float32).ravel().tolist(), int(buffer.used)
    ([4.5, 1.5, 3.0, 0.0], 0)

    ```
    """

    page: Int32[Array, " capacity"]
    """Page id; the sentinel `num_pages` in rows that aren't used."""
    words: UInt32[Array, "capacity words"]
    mask: UInt32[Array, "capacity packed"]
    source: Int32[Array, " capacity"]
    used: Int32[Array, ""]
    """Rows pushed so far, as far as they found room."""
    dropped: Int32[Array, ""]
    """Rows that found none, and rows that were missing in what was pushed. Anything but 0: what is here is incomplete,
    and `bus.apply` refuses it."""
    rung: Bool[Array, ""]
    """The doorbell: the host should come and drain."""
    num_pages: int = eqx.field(static=True)

    @classmethod
    def create(cls, state: State | Any, capacity: int | Any) -> "CommandBuffer":
        """An empty buffer with room for so many rows, for pages like those of `state`.

        **Raises:** `InvalidTypeError`, `InvalidArgumentError`.
        """
        require_instance(state, State, "State.create makes one")
        require_capacity(capacity)
        return cls(
            page=jnp.full(capacity, state.num_pages, jnp.int32),
            words=jnp.zeros((capacity, state.page_words), jnp.uint32),
            mask=jnp.zeros((capacity, -(-state.page_words // 32)), jnp.uint32),
            source=jnp.zeros(capacity, jnp.int32),
            used=jnp.zeros((), jnp.int32),
            dropped=jnp.zeros((), jnp.int32),
            rung=jnp.zeros((), jnp.bool_),
            num_pages=state.num_pages,
        )

    @property
    def capacity(self) -> int:
        """How many rows there is room for."""
        return self.page.shape[-1]

    def push(self, deltas: DeltaBatch | Any) -> "CommandBuffer":
        """The buffer with the rows of a batch behind its own; empty rows take no room. Pure.

        What finds no room is counted in `dropped`, and rings the bell. **Raises:** `InvalidTypeError`, and
        `InvalidDeltaError` for pages of another size.
        """
        require_instance(deltas, DeltaBatch, "DeltaBatch.make(state, page, words) makes one")
        if deltas.page_words != self.words.shape[-1]:
            raise InvalidDeltaError(
                f"got deltas for pages of {deltas.page_words} words, but this buffer's have {self.words.shape[-1]}; "
                "make both for one state"
            )
        real = deltas.page != self.num_pages
        position = self.used + jnp.cumsum(real, dtype=jnp.int32) - 1
        lost = jnp.sum(real & (position >= self.capacity), dtype=jnp.int32) + deltas.dropped
        row = jnp.where(real, position, self.capacity)
        mask = jnp.full((len(deltas), self.mask.shape[-1]), 0xFFFFFFFF, jnp.uint32)
        return CommandBuffer(
            page=self.page.at[row].set(deltas.page, mode="drop"),
            words=self.words.at[row].set(deltas.words, mode="drop"),
            mask=self.mask.at[row].set(mask if deltas.mask is None else deltas.mask, mode="drop"),
            source=self.source.at[row].set(deltas.source, mode="drop"),
            used=jnp.minimum(self.used + jnp.sum(real, dtype=jnp.int32), self.capacity),
            dropped=self.dropped + lost,
            rung=self.rung | (lost > 0),
            num_pages=self.num_pages,
        )

    def ring(self, when: ArrayLike | Any = True) -> "CommandBuffer":
        """The buffer with its bell rung, if `when` (a bool, traced or not) says so. Pure.

        **Raises:** `InvalidTypeError` for what is no single bool.
        """
        rings = jnp.asarray(when)
        if rings.dtype != jnp.bool_ or rings.ndim:
            raise InvalidTypeError(f"got {rings.dtype}{list(rings.shape)}; ring when a single bool is true")
        return eqx.tree_at(lambda b: b.rung, self, self.rung | rings)


def drain(buffer: CommandBuffer | Any) -> tuple[DeltaBatch, CommandBuffer]:
    """Everything that was pushed, in that order, as one batch, and the buffer emptied. See `CommandBuffer`.

    The batch has as many rows as the buffer has room, so that whatever takes it is compiled once. Pure: the buffers of
    many worlds are drained by `jax.vmap(drain)`. **Raises:** `InvalidTypeError` for what is no buffer.

    ```python
    >>> import mmsb_jax as mmsb
    >>> from mmsb_jax.propagation import CommandBuffer
    >>> drain(CommandBuffer.create(mmsb.State.create(3), capacity=2))[0].page.tolist()
    [3, 3]

    ```
    """
    require_instance(buffer, CommandBuffer, "CommandBuffer.create(state, capacity) makes one")
    deltas = DeltaBatch(buffer.page, buffer.words, buffer.mask, buffer.source, buffer.dropped)
    # Words that nobody can read stay as they are: emptying is a matter of ids and counts.
    empty = eqx.tree_at(
        lambda b: (b.page, b.used, b.dropped, b.rung),
        buffer,
        (
            jnp.full_like(buffer.page, buffer.num_pages),
            jnp.zeros_like(buffer.used),
            jnp.zeros_like(buffer.dropped),
            jnp.zeros_like(buffer.rung),
        ),
    )
    return deltas, empty
