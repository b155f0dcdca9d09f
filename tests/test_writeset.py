"""What a step can change, read off its trace, against what it does change: nothing may ever be missed."""

import math
import sys
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax

from mmsb_jax.page.recorder import _touch
from mmsb_jax.page.recorder._touch import Runs, Where, flags_of, ids_of
from mmsb_jax.page.recorder._writeset import Trail, follow

pytestmark = pytest.mark.unchecked

SHAPES = ((40,), (13, 8), (4, 6, 5), (2, 3, 4, 5), (64, 1), (1, 30))
DTYPES = ("float32", "int8", "uint16")
Op = Callable[[Any, Any], Any]


def candidates(trail: Trail, size: int, per_page: int) -> Any:
    """Which pages of a leaf may have changed. A last page that isn't full is recorded in any case, so it counts."""
    pages, found = size // per_page, jnp.zeros(-(-size // per_page), bool).at[size // per_page :].set(True)
    for touch in trail.touches:
        if isinstance(touch, Where) and not touch.divides(per_page):
            return jnp.ones_like(found)  # such a leaf is compared
        found = found.at[:pages].set(found[:pages] | flags_of(touch, per_page, pages))
    return found


def changed(old: Any, new: Any, per_page: int) -> np.ndarray:
    differs = np.asarray(old).reshape(-1).view(np.uint8) != np.asarray(new).reshape(-1).view(np.uint8)
    words = differs.reshape(np.size(old), -1).any(axis=1)
    return np.bitwise_or.reduceat(words, np.arange(0, len(words), per_page))


@st.composite
def an_index(draw: st.DrawFn, size: int, dtype: str = "int32") -> np.ndarray:
    """In bounds, negative, and out of bounds."""
    low, high = (0, 255) if dtype == "uint8" else (-2 * size - 1, 2 * size + 1)
    return np.array(draw(st.lists(st.integers(low, high), min_size=1, max_size=3))).astype(dtype)


def scatter_rows(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    """`x.at[i, j, …].how(…)`, with indices for the first axes."""
    depth = draw(st.integers(1, len(shape)))
    how = draw(st.sampled_from(["set", "add", "multiply", "min", "max"]))
    mode = draw(st.sampled_from([None, "drop", "clip", "promise_in_bounds"]))
    kind = draw(st.sampled_from(["int32", "uint8", "int16"]))
    length = draw(st.integers(1, 3))
    index = tuple(
        np.resize(draw(an_index(size)) % size if mode == "promise_in_bounds" else draw(an_index(size, kind)), length)
        for size in shape[:depth]
    )
    return lambda x, k: getattr(x.at[tuple(jnp.asarray(i) + (0 * k).astype(i.dtype) for i in index)], how)(
        (k + nth + 3).astype(x.dtype), mode=mode
    )


def scatter_slices(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    """`x.at[a:b:c, :, i].set(…)`."""
    parts: list[Any] = []
    for size in shape:
        kind = draw(st.sampled_from(["all", "slice", "number"]))
        ends = sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size))))
        parts.append(
            {
                "all": slice(None),
                "slice": slice(*ends, draw(st.integers(1, 3))),
                "number": draw(st.integers(-size, size - 1)),
            }[kind]
        )
    return lambda x, k: x.at[tuple(parts)].add((k + nth + 1).astype(x.dtype))


def dynamic_slices(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    window = tuple(draw(st.integers(1, size)) for size in shape)
    starts = [draw(st.integers(-size, 2 * size)) for size in shape]
    return lambda x, k: lax.dynamic_update_slice(
        x, jnp.full(window, (k + nth + 5).astype(x.dtype)), [start + 0 * k for start in starts]
    )


def where_flags(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    """Flags for the first axes, as many as there are, or one for all; either case may be the old one."""
    depth = draw(st.integers(0, len(shape)))
    flags = np.array(draw(st.lists(st.booleans(), min_size=1, max_size=9)))
    swapped = draw(st.booleans())

    def op(x: Any, k: Any) -> Any:
        picked = np.resize(flags, shape[:depth]) & (k >= 0)
        picked = picked.reshape(shape[:depth] + (1,) * (len(shape) - depth))
        other = (x + (k + nth + 1).astype(x.dtype)).astype(x.dtype)
        return jnp.where(picked, x, other) if swapped else jnp.where(picked, other, x)

    return op


def batched(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    """Under `vmap`: batching dimensions."""
    if len(shape) < 2:
        return scatter_rows(draw, shape, nth)
    index = np.resize(draw(an_index(shape[1])), shape[0])
    return lambda x, k: jax.vmap(lambda row, i: row.at[i].add((k + nth + 2).astype(x.dtype)))(x, jnp.asarray(index))


def views(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    """Flat, with another axis, as bits, behind a barrier."""
    kind = draw(st.sampled_from(["flat", "axis", "bits", "barrier"]))
    at = draw(st.integers(0, int(np.prod(shape)) - 1))

    def op(x: Any, k: Any) -> Any:
        match kind:
            case "flat":
                return x.reshape(-1).at[at].set((k + nth).astype(x.dtype)).reshape(shape)
            case "axis":
                return x[None].at[0, 0].set((k + nth).astype(x.dtype))[0]
            case "barrier":
                return lax.optimization_barrier((x, k))[0].at[0].set((k + nth).astype(x.dtype))
        bits = lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
        return lax.bitcast_convert_type(bits.reshape(-1).at[at].set(bits.dtype.type(7)).reshape(shape), x.dtype)

    return op


def nested(draw: st.DrawFn, shape: tuple[int, ...], nth: int) -> Op:
    inner = scatter_rows(draw, shape, nth)
    return lambda x, k: jax.jit(inner)(x, k)


OPS = (scatter_rows, scatter_slices, dynamic_slices, where_flags, batched, views, nested)


@st.composite
def programs(draw: st.DrawFn) -> tuple[np.ndarray, list[Op], int]:
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    old = (np.arange(np.prod(shape)).reshape(shape) % 50).astype(dtype)
    ops = [draw(st.sampled_from(OPS))(draw, shape, nth) for nth in range(draw(st.integers(1, 3)))]
    return old, ops, draw(st.sampled_from([1, 2, 4, 5, 8, 16, 64]))


def run(ops: list[Op]) -> Callable[[Any, Any], Any]:
    def step(x: Any, k: Any) -> Any:
        for op in ops:
            x = op(x, k)
        return x

    return step


def check(program: tuple[np.ndarray, list[Op], int]) -> None:
    """What changed is among the candidates, and what comes out is what the step gives by itself."""
    old, ops, per_page = program
    step = run(ops)
    closed = jax.make_jaxpr(step)(old, jnp.int32(1))

    @jax.jit
    def followed(x: Any, k: Any) -> tuple[Any, Any, Any]:
        (new,), (trail,) = follow(closed.jaxpr, closed.consts, [x, k], 2)
        assert trail is not None, "every program here names the places that it writes"
        assert trail.source == 0
        return new, step(x, k), candidates(trail, old.size, per_page)

    new, wanted, found = followed(old, jnp.int32(1))
    np.testing.assert_array_equal(new, wanted)
    missed = np.flatnonzero(changed(old, new, per_page) & ~np.asarray(found))
    assert not len(missed), f"pages {missed} changed and are no candidates"


@settings(max_examples=settings().max_examples * 3 // 4)
@given(programs())
def test_no_change_is_ever_missed(program):
    check(program)


ARRAY = np.arange(40, dtype=np.float32).reshape(8, 5)
CANARIES = {
    "indices": ("_inside", lambda index, last: jnp.zeros_like(index), [lambda x, k: x.at[k + 4].set(0.5)]),
    "windows": ("Runs.pages_each", lambda self, per_page: 1, [lambda x, k: x.at[k].set(0.5)]),
    "edges": (
        "_inside",
        lambda index, last: jnp.asarray(index % 8),
        [lambda x, k: lax.dynamic_update_slice(x, x[:2] + 1, (99, 0))],
    ),
    "flags": (
        "flags_of",
        lambda *args: ~_touch.flags_of(*args),
        [lambda x, k: jnp.where(x > 30 + k.astype(x.dtype), 0, x)],
    ),
}


@pytest.mark.parametrize("name", CANARIES)
def test_a_missed_page_is_seen(name, monkeypatch):
    target, broken, ops = CANARIES[name]
    check((ARRAY, ops, 4))
    module = sys.modules[__name__] if target == "flags_of" else _touch
    owner = getattr(module, target.split(".")[0]) if "." in target else module
    monkeypatch.setattr(owner, target.split(".")[-1], broken)
    with pytest.raises(AssertionError, match="changed and are no candidates"):
        check((ARRAY, ops, 4))


@settings(max_examples=settings().max_examples // 3)
@given(st.integers(1, 12), st.integers(1, 12), st.sets(st.integers(0, 20), min_size=3, max_size=3), st.integers(1, 16))
def test_runs_lie_on_the_pages_that_they_say(length, stride, places, per_page):
    step = -(-length // stride) * stride  # so that no two overlap
    runs = Runs(jnp.asarray([step * place for place in sorted(places)]), length, math.gcd(step), True)
    ids = np.asarray(ids_of(runs, per_page))
    elements = (np.asarray(runs.start)[:, None] + np.arange(length)).reshape(-1)
    assert set(ids) == set(elements // per_page)
    assert len(ids) == len(places) * runs.pages_each(per_page)
    if runs.is_plain(per_page):
        assert len(set(ids)) == len(ids)
    flags = np.asarray(flags_of(runs, per_page, int(ids.max())))  # the last of them lies beyond the pages asked for
    assert set(np.flatnonzero(flags)) == set(ids) - {ids.max()}


@pytest.mark.parametrize(
    "step",
    [
        lambda x, k: x + 0,
        lambda x, k: x[::-1],
        lambda x, k: jnp.roll(x, 1, 0).at[0].set(0.0),
        lambda x, k: jnp.sort(x).at[k].set(0.0),
        lambda x, k: jnp.where(x > 3, x, x * 2).T.reshape(x.shape),
        lambda x, k: jnp.where(x > 3, 2 * x, 3 * x),
        lambda x, k: lax.fori_loop(0, 3, lambda i, y: y.at[i].set(0.0), x),
        lambda x, k: lax.cond(k > 0, lambda y: y.at[0].set(0.0), lambda y: y, x),
        lambda x, k: x.astype(jnp.float16).astype(jnp.float32),
        lambda x, k: lax.bitcast_convert_type(x, jnp.uint16).at[k].set(jnp.uint16(0)),
        lambda x, k: x.at[k].get()[None] + x,
        lambda x, k: jnp.zeros_like(x).at[k].set(x[k]),
        lambda x, k: lax.select_n(jnp.clip(k, 0, 2), x, x + 1, x),
    ],
)
def test_what_may_be_anywhere_has_no_trail(step):
    closed = jax.make_jaxpr(step)(ARRAY, jnp.int32(1))
    _, trails = follow(closed.jaxpr, closed.consts, [jnp.asarray(ARRAY), jnp.int32(1)], 2)
    assert trails == [None]


def test_what_is_not_touched_costs_nothing():
    closed = jax.make_jaxpr(lambda x, k: (jax.jit(lambda y: y)(x.reshape(-1)).reshape(8, 5), k + 1))(ARRAY, 1)
    _, trails = follow(closed.jaxpr, closed.consts, [jnp.asarray(ARRAY), jnp.int32(1)], 2)
    assert trails == [Trail(0), None]


def test_a_leaf_that_moves_to_another_place_is_no_longer_the_same():
    closed = jax.make_jaxpr(lambda x, y: (y, x))(ARRAY, ARRAY)
    assert [trail.source for trail in follow(closed.jaxpr, closed.consts, [ARRAY, ARRAY], 2)[1]] == [1, 0]
