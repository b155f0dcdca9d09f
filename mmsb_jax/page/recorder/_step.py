"""A step function as a trace on flat leaves: types settled as `lax.scan` settles them, faults named by leaf."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ..._errors import InvalidTypeError
from ...physical import Leaf, Paging

__all__ = ["Traced", "struct_of", "traced_select", "traced_step"]

_ROUNDS = 4  # a weak type can be widened a few times at most: int, float, complex


@dataclass(frozen=True, eq=False)
class Traced:
    """A trace `(*state, *x) -> (*state, *out)` on flat leaves. Equal only to itself, and kept, so that jit knows it."""

    closed: Any
    """A `ClosedJaxpr`."""
    state: Any
    """The form of the state, as a `Paging` has it."""
    out: Any
    """The form of what the step returns beside the state; None if it returns nothing else."""


class _ById:
    """Something that can't be hashed, such as a method of a module with arrays: the same only as itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __hash__(self) -> int:
        return id(self.function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.function is self.function


def traced_step(step: Callable[..., Any] | Any, init: Any, x: Any = None) -> tuple[Traced, list[jax.Array]]:
    """The trace of a step, and the leaves of the initial state as the loop will carry them.

    **Arguments:**

    - `step`: `step(state)` or `step(state, x)`, returning the state, or the state and something else.
    - `init`: the initial state.
    - `x`: what one step gets, or `ShapeDtypeStruct`s in its place; None if it gets nothing.

    **Raises:** `InvalidTypeError` where the step returns another structure, shape or dtype than it gets.
    """
    if not callable(step):
        raise InvalidTypeError(f"got step={step!r}; pass a function step(state) -> state")
    x_form = None if x is None else _form_of(x)
    x_shapes = () if x_form is None else tuple(map(_shape_of, x_form.values(x)))
    for _ in range(_ROUNDS):
        form = _form_of(init)
        values = [jnp.asarray(value) for value in form.values(init)]
        shapes = tuple(map(_shape_of, values))
        traced = _traced(_hashable(step), form, shapes, x_form, x_shapes)
        wider = _wider(traced, shapes)
        if not wider:
            break
        init = form.unflatten([_widened(value, wider[i]) if i in wider else value for i, value in enumerate(values)])
    _require_stable(traced, [*shapes])
    return traced, values


def traced_select(select: Callable[[Any], Any] | Any, state: Any) -> tuple[Any, Any]:
    """The trace of a selection from the state, on flat leaves, and the form of what it selects.

    **Raises:** `InvalidTypeError` when that can't lie on pages, or is no function.
    """
    if not callable(select):
        raise InvalidTypeError(f"got select={select!r}; pass a function select(state) -> the part to record")
    return _selected(_hashable(select), state)


def _form_of(tree: Any) -> Any:
    return Paging.like(tree).form


def _hashable(function: Callable[..., Any]) -> Any:
    try:
        hash(function)
    except TypeError:
        return _ById(function)
    return function


def _called(function: Any) -> Callable[..., Any]:
    return function.function if isinstance(function, _ById) else function


def _shape_of(value: Any) -> jax.ShapeDtypeStruct:
    kind = jax.typeof(value) if not isinstance(value, jax.ShapeDtypeStruct) else value
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=getattr(kind, "weak_type", False))


@functools.lru_cache(maxsize=64)
def _traced(
    step: Any,
    form: Any,
    shapes: Sequence[jax.ShapeDtypeStruct],
    x_form: Any | None,
    x_shapes: Sequence[jax.ShapeDtypeStruct],
) -> Traced:
    outs: list[Any] = []

    def flat(values: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        tree = form.unflatten(values)
        result = _called(step)(tree) if x_form is None else _called(step)(tree, x_form.unflatten(xs))
        state, out = _parted(form, result)
        found = [jnp.asarray(value) for value in _loosely(form, state)]
        if out is None:
            return found, []
        outs.append(_form_of(out[0]))
        return found, [jnp.asarray(value) for value in outs[-1].values(out[0])]

    closed = jax.make_jaxpr(flat)(list(shapes), list(x_shapes))
    return Traced(closed, form, outs[-1] if outs else None)


@functools.lru_cache(maxsize=64)
def _selected(select: Any, state: Any) -> tuple[Any, Any]:
    forms: list[Any] = []

    def flat(values: Sequence[Any]) -> list[Any]:
        part = _called(select)(state.unflatten(values))
        forms.append(_form_of(part))
        return [jnp.asarray(value) for value in forms[-1].values(part)]

    closed = jax.make_jaxpr(flat)([struct_of(leaf) for leaf in state.leaves])
    return closed, forms[-1]


def struct_of(leaf: Leaf) -> Any:
    """The shape and dtype of a leaf, as JAX has them."""
    if leaf.impl is None:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.eval_shape(lambda: jnp.broadcast_to(jax.random.key(0, impl=leaf.impl), leaf.shape))


def _parted(form: Any, result: Any) -> tuple[Any, tuple[Any] | None]:
    """The state, and what came with it, in a tuple of one."""
    found = jax.tree.structure(result)
    if found == form.treedef:
        return result, None
    if type(result) is tuple and len(result) == 2 and jax.tree.structure(result[0]) == form.treedef:
        return result[0], (result[1],)
    if type(result) is tuple and len(result) == 2 and not isinstance(form.unflatten([0] * len(form.leaves)), tuple):
        result = result[0]
    raise InvalidTypeError(f"step must return a state like the one it gets, or (state, output): {_fault(form, result)}")


def _fault(form: Any, tree: Any) -> str:
    try:
        form.values(tree)
    except InvalidTypeError as why:
        return str(why)
    return "it doesn't"


def _loosely(form: Any, tree: Any) -> list[Any]:
    """The leaves that are data, of whatever shape and dtype; static ones have to be the same."""
    leaves = jax.tree.leaves(tree)
    for i, value in form.statics:
        if not (leaves[i] is value or leaves[i] == value):
            raise InvalidTypeError(f"step changes what is no data: {value!r} became {leaves[i]!r}")
    statics = dict(form.statics)
    return [leaf for i, leaf in enumerate(leaves) if i not in statics]


def _wider(traced: Traced, shapes: Sequence[jax.ShapeDtypeStruct]) -> dict[int, Any]:
    """Leaves that came in as Python's numbers, without a dtype of their own, and come out with another: as what."""
    outs = traced.closed.out_avals[: len(shapes)]
    pairs = enumerate(zip(shapes, outs, strict=True))
    return {i: out for i, (given, out) in pairs if given.weak_type and given.dtype != out.dtype}


def _widened(value: jax.Array, wanted: Any) -> jax.Array:
    if wanted.weak_type and value.ndim == 0:  # it still has none of its own
        return jnp.asarray({"i": int, "f": float, "c": complex}[wanted.dtype.kind](value))
    return value.astype(wanted.dtype)


def _require_stable(traced: Traced, shapes: Sequence[jax.ShapeDtypeStruct]) -> None:
    outs = traced.closed.out_avals[: len(shapes)]
    for leaf, given, out in zip(traced.state.leaves, shapes, outs, strict=True):
        if (given.shape, given.dtype) != (out.shape, out.dtype):
            name = f"the leaf {leaf.path}" if leaf.path else "the state, a single leaf,"
            raise InvalidTypeError(
                f"step gets {name} as {given.dtype}{list(given.shape)} and returns it as {out.dtype}{list(out.shape)}; "
                "a step must keep shapes and dtypes: cast it in the step (x.astype), or change the initial state"
            )
