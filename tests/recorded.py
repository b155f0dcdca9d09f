"""States and steps to record, what a plain loop makes of them, and what a log says of a recorded run."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax.page import FrameKind, read_frames, replay_log


class Body(eqx.Module):
    """A module with a static field and a function among its leaves."""

    mass: jax.Array
    pull: Callable[[jax.Array], jax.Array]
    name: str = eqx.field(static=True)


def rich_state() -> dict[str, Any]:
    """Leaves of every kind of treatment, and of many dtypes."""
    return {
        "t": 0,
        "key": jax.random.key(5),
        "listed": jnp.arange(700, dtype=jnp.float32).reshape(70, 10),
        "flagged": jnp.zeros((40, 16), jnp.float32),
        "compared": jnp.arange(500, dtype=jnp.float32),
        "whole": jnp.arange(330, dtype=jnp.float32),
        "halves": jnp.ones(1001, jnp.bfloat16),
        "flags": jnp.zeros(999, jnp.bool_),
        "phase": jnp.ones(40, jnp.complex64),
        "fixed": jnp.arange(300, dtype=jnp.int32),
        "body": Body(jnp.float32([1, -0.0, np.nan]), jnp.tanh, "moon"),
        "none": None,
        "empty": jnp.zeros((0, 3)),
    }


def rich_step(s: dict[str, Any]) -> dict[str, Any]:
    t = s["t"]
    key, draw = jax.random.split(s["key"])
    rows = jax.random.randint(draw, (5,), -3, 80)
    hit = (jnp.arange(40) + t) % 13 == 0
    near = (jnp.arange(500) - 7 * t) % 500 < 20
    return s | {
        "t": t + 1,
        "key": key,
        "listed": s["listed"].at[rows].add(0.25).at[3].set(s["compared"][:10]),
        "flagged": jnp.where(hit[:, None], s["flagged"] + t.astype(jnp.float32), s["flagged"]),
        "compared": s["compared"] + near.astype(jnp.float32) * 0.5,
        "whole": jnp.sin(s["whole"]) + 0.1,
        "halves": s["halves"].at[(13 * t) % 1001].multiply(jnp.bfloat16(1.5)),
        "flags": s["flags"].at[(t * t) % 999].set(t % 2 == 0),
        "phase": s["phase"] * jnp.complex64(0.6 + 0.8j),
        "body": Body(s["body"].pull(s["body"].mass) + 1, s["body"].pull, s["body"].name),
    }


def bits(tree: Any) -> list[bytes]:
    """Every leaf as its bytes; keys as their data, functions as themselves."""
    found = []
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found.append(leaf if callable(leaf) else np.asarray(jnp.asarray(leaf)).tobytes())
    return found


def same(a: Any, b: Any) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and bits(a) == bits(b)


def states_of(step: Callable[..., Any], init: Any, steps: int, xs: Any = None) -> Iterator[Any]:
    """The states that a plain loop goes through, from the initial one."""
    static = jax.tree.map(lambda leaf: leaf if callable(leaf) else None, init)
    data = jax.tree.map(lambda leaf: None if callable(leaf) else jnp.asarray(leaf), init)

    @jax.jit
    def one(data: Any, x: Any) -> Any:
        whole = eqx.combine(data, static)
        return eqx.filter(step(whole) if xs is None else step(whole, x), lambda leaf: not callable(leaf))

    yield eqx.combine(data, static)
    for i in range(steps):
        data = one(data, None if xs is None else jax.tree.map(lambda leaf, i=i: leaf[i], xs))
        yield eqx.combine(data, static)


def changes_of(place: Any) -> list[Any]:
    """The CHANGES frames of a run."""
    return [frame for frame in read_frames(place) if frame.kind == FrameKind.CHANGES]


def check_log(place: Any) -> None:
    """Nothing is logged that didn't change, nothing twice; and every digest is that of the pages at its tick."""
    frames = changes_of(place)
    assert [frame.tick for frame in frames] == sorted({frame.tick for frame in frames})
    before = replay_log(place, until_tick=0, checkpoints=False).pages
    for frame in frames[1:]:
        changes = frame.changes()
        page, words, mask, _ = changes.to_rows(before.shape[1])
        assert changes.tick is not None
        assert len(set(zip(page.tolist(), changes.tick.tolist(), strict=True))) == len(page)
        for i, number in enumerate(page):
            new = words[i] if mask is None else np.where(changes.bits(before.shape[1])[i], words[i], before[number])
            assert (new != before[number]).any(), f"page {number} did not change at {changes.tick[i]}"
            if mask is not None:
                assert ((new != before[number]) == changes.bits(before.shape[1])[i]).all()
            before[number] = new
        if frame.digest is not None:
            state = mmsb.State.create(*before.shape[:1], page_bytes=4 * before.shape[1])
            pages = eqx.tree_at(lambda s: s.pages, state, jnp.asarray(before))
            assert tuple(mmsb.digest(pages).tolist()) == frame.digest
    assert frames[-1].digest is not None, "the last commit has a digest"
