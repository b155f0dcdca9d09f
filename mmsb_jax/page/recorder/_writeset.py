"""What a step can change, read off its trace, so that only that has to be compared.

A step that scatters into a large array says where it writes. `follow` evaluates the step's trace equation by equation,
as it is, and carries a *trail* along with every value that is still one of the step's inputs except in places that it
can name:

    x₁ = scatter(x₀, indices, updates)     trail of x₀, and the runs of elements that `indices` name
    x₂ = select_n(flags, x₁, other)        and the elements where `flags` picks `other`
    x₃ = reshape(x₂)                       the same: elements are counted flat
    y  = x₃ + 1                            no trail

It is sound: what isn't known to leave all other bits alone ends a trail, and an output without one is compared as a
whole. Indices are computed by the step itself; nothing is computed twice, and none of its equations is changed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from ._touch import Runs, Touch, Where, runs_of_scatter, runs_of_slice

__all__ = ["Trail", "follow"]

_INLINED = frozenset({"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"})
_MOST_RUNS = 1 << 20


@dataclass(frozen=True)
class Trail:
    """A value that is an input of the step, by its number, except for the touched elements."""

    source: int
    touches: tuple[Touch, ...] = ()


@dataclass(frozen=True)
class _Coarse:
    """A value of one element for each `step` elements, flat, of what it was broadcast to."""

    flags: jax.Array
    step: int


_Note = Trail | _Coarse | None


def follow(
    jaxpr: jax.extend.core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], sources: int
) -> tuple[list[Any], list[Trail | None]]:
    """Evaluate a trace, and say which of its outputs are still inputs, and where they aren't.

    **Arguments:**

    - `jaxpr`, `consts`: the trace.
    - `args`: its inputs, concrete or being traced.
    - `sources`: how many of the inputs, from the first, are of interest.

    **Returns:** the outputs, and for each its trail, or None.
    """
    notes = [Trail(i) if i < sources else None for i in range(len(args))]
    values, found = _evaluated(jaxpr, consts, args, notes)
    return values, [note if isinstance(note, Trail) else None for note in found]


def _evaluated(
    jaxpr: jax.extend.core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], notes: Sequence[_Note]
) -> tuple[list[Any], list[_Note]]:
    known: dict[Any, tuple[Any, _Note]] = dict(zip(jaxpr.constvars, ((c, None) for c in consts), strict=True))
    known.update(zip(jaxpr.invars, zip(args, notes, strict=True), strict=True))

    def read(atom: Any) -> tuple[Any, _Note]:
        return (atom.val, None) if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        known.update(zip(equation.outvars, _outputs(equation, inputs), strict=True))
    outputs = [read(atom) for atom in jaxpr.outvars]
    return [value for value, _ in outputs], [note for _, note in outputs]


def _outputs(equation: Any, inputs: Sequence[tuple[Any, _Note]]) -> list[tuple[Any, _Note]]:
    values, notes = [value for value, _ in inputs], [note for _, note in inputs]
    primitive, noted = equation.primitive, any(note is not None for note in notes)
    if noted and primitive.name in _INLINED:
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        return list(zip(*_evaluated(inner.jaxpr, inner.consts, values, notes), strict=True))
    with equation.ctx.manager:
        found = primitive.bind(*values, **primitive.get_bind_params(equation.params))
    outputs = list(found) if primitive.multiple_results else [found]
    rule = _RULES.get(primitive.name)
    # Flags that were broadcast are known by what they were broadcast from, whether or not that has a note.
    known = rule(equation, values, notes) if rule and (noted or rule is _broadcast) else [None] * len(outputs)
    return list(zip(outputs, known, strict=True))


def _same(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    """The elements are the same, in the same flat order, and as wide."""
    before, after = equation.invars[0].aval, equation.outvars[0].aval
    if before.size != after.size or _width(before) != _width(after) or equation.params.get("dimensions") is not None:
        return [None]
    return [notes[0]]


def _squeezed(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    return [notes[0]]


def _same_dtype(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    return [notes[0] if equation.invars[0].aval.dtype == equation.outvars[0].aval.dtype else None]


def _all_same(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    return list(notes)


def _broadcast(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    """Unit axes are only added, or every element is repeated along the last axes."""
    operand, out, axes = equation.invars[0].aval, equation.outvars[0].aval, equation.params["broadcast_dimensions"]
    if operand.size == out.size:
        return [notes[0] if _width(operand) else None]
    kept = [axis for axis, size in zip(axes, operand.shape, strict=True) if size != 1]
    leading = kept == list(range(len(kept))) and math.prod(out.shape[: len(kept)]) == operand.size
    if operand.dtype != np.bool_ or not leading:
        return [None]
    return [_Coarse(jnp.reshape(values[0], (-1,)), out.size // operand.size)]


def _select(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    """Some cases are still the same input; where another case is picked, the element is touched."""
    flags, cases = values[0], notes[1:]
    source = next((note.source for note in cases if isinstance(note, Trail)), None)
    if source is None:
        return [None]
    touches: list[Touch] = []
    for nth, note in enumerate(cases):
        if isinstance(note, Trail) and note.source == source:
            touches += [touch for touch in note.touches if touch not in touches]
        else:
            coarse = notes[0] if isinstance(notes[0], _Coarse) else _coarse(flags, equation.outvars[0].aval.size)
            picked = coarse.flags if nth == 1 else ~coarse.flags
            if len(cases) != 2 or flags.dtype != np.bool_:
                return [None]
            touches.append(Where(picked, coarse.step))
    return [Trail(source, tuple(touches))]


def _coarse(flags: Any, size: int) -> _Coarse:
    flat = jnp.reshape(flags, (-1,))
    return _Coarse(flat, size // max(flat.size, 1))


def _scattered(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    trail = notes[0]
    shape, updates = equation.invars[0].aval.shape, equation.invars[2].aval.shape
    if not isinstance(trail, Trail) or math.prod(shape) >= 2**31:
        return [None]
    params = equation.params
    runs = runs_of_scatter(shape, values[1], updates, params["dimension_numbers"], params["unique_indices"], _MOST_RUNS)
    return [_longer(trail, runs)]


def _sliced(equation: Any, values: Sequence[Any], notes: Sequence[_Note]) -> list[_Note]:
    trail = notes[0]
    shape, window = equation.invars[0].aval.shape, equation.invars[1].aval.shape
    if not isinstance(trail, Trail) or math.prod(shape) >= 2**31:
        return [None]
    return [_longer(trail, runs_of_slice(shape, window, values[2:], _MOST_RUNS))]


def _longer(trail: Trail, runs: Runs | None) -> Trail | None:
    return None if runs is None else Trail(trail.source, (*trail.touches, runs))


def _width(aval: Any) -> int:
    return 0 if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended) else aval.dtype.itemsize


_RULES: dict[str, Callable[[Any, Sequence[Any], Sequence[_Note]], list[_Note]]] = {
    "reshape": _same,
    "bitcast_convert_type": _same,
    "squeeze": _squeezed,
    "expand_dims": _squeezed,
    "copy": _squeezed,
    "copy_p": _squeezed,
    "convert_element_type": _same_dtype,
    "optimization_barrier": _all_same,
    "broadcast_in_dim": _broadcast,
    "select_n": _select,
    "dynamic_update_slice": _sliced,
    **{
        f"scatter{kind}": _scattered
        for kind in ("", "-add", "-sub", "-mul", "-min", "-max", "_add", "_mul", "_min", "_max")
    },
}
