"""`values_after`: every page recomputed, as a function that can be differentiated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int32, Shaped

from .._errors import InvalidArgumentError, InvalidTypeError
from ._fold import Contents, Where, recompute
from ._plan import RuleGraph
from ._recipe import check_recipe
from ._wave import window_pages

__all__ = ["values_after"]


def values_after(
    graph: RuleGraph | Any, values: ArrayLike | Any, *, weight: ArrayLike | Any | None = None
) -> Shaped[Array, "pages words"]:
    """The contents of all pages when every page with a rule has been recomputed, parents before children.

    What a wave leads to, without a state, a queue or deltas: loops of fixed length, so that `jax.grad`, `jvp`, `vmap`
    and `scan` go through. Contents are the same, bit for bit, as those of a wave that reaches every page. Costs time
    for every page, and under `grad` memory for every edge.

    **Arguments:**

    - `values`: [pages, words], by page id, of a 4-byte dtype: as `state.view(jnp.float32)` gives them.
    - `weight`: float32[edges], instead of the weights of the graph, in its order (`ShadowPageGraph.weight`).

    **Returns:** an array like `values`. Gradients pass through pages whose rule sees the dtype of `values`
    (`Rule(…, dtype=jnp.float32)`) or only moves words, and end at all others. Where ⊕ is min or max, equal candidates
    share the gradient as JAX shares it between the arguments of `jnp.minimum`. Gradients are sums in no promised
    order: their bits are no state.

    **Raises:** `InvalidTypeError`, `InvalidArgumentError`.

    ```python
    >>> import mmsb_jax as mmsb, jax, jax.numpy as jnp
    >>> total = mmsb.Rule.semiring("total", pages=[2], semiring=mmsb.semiring.plus_times, weighted=True)
    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 1], [2, 2], weight=[2, 3], num_pages=3)
    >>> rules = mmsb.RuleGraph.of(graph, [total])
    >>> values = jnp.array([[5.0], [7.0], [0.0]])
    >>> jax.grad(lambda v: mmsb.propagation.values_after(rules, v)[2, 0])(values).ravel()
    Array([2., 3., 0.], dtype=float32)
    >>> jax.grad(lambda w: mmsb.propagation.values_after(rules, values, weight=w)[2, 0])(jnp.array([2.0, 3.0]))
    Array([5., 7.], dtype=float32)

    ```
    """
    if not isinstance(graph, RuleGraph):
        raise InvalidTypeError(f"got a {type(graph).__name__}; pass RuleGraph.of(graph, rules)")
    contents = _contents(values, graph.num_pages)
    graph = graph if weight is None else _reweighted(graph, weight)
    for recipe in graph.recipes:
        check_recipe(recipe, contents.shape[1])
    if graph.num_windows == 0:
        return contents

    def recomputed(rows: Array, window: Int32[Array, ""]) -> tuple[Array, None]:
        number, page, valid = window_pages(graph, window)
        own = rows.at[page].get(mode="promise_in_bounds")
        rule = graph.stage_rule[graph.window_stage[window]]
        new = recompute(graph, rule, Contents(rows, Where(graph.page, None, None)), number, valid, own, fixed=True)
        return rows.at[jnp.where(valid, page, graph.num_pages)].set(new, mode="drop"), None

    return jax.lax.scan(recomputed, contents, jnp.arange(graph.num_windows, dtype=jnp.int32))[0]


def _contents(values: Any, pages: int) -> Array:
    try:
        contents = values if isinstance(values, jax.Array) else np.asarray(values)
    except (TypeError, ValueError) as why:
        raise InvalidTypeError(f"got values that are no regular array ({why}); pass [pages, words]") from why
    if contents.dtype not in (jnp.uint32, jnp.int32, jnp.float32):
        raise InvalidTypeError(f"got values of dtype {contents.dtype}; pass float32, int32 or uint32")
    if contents.ndim != 2 or contents.shape[0] != pages or contents.shape[1] == 0:
        raise InvalidArgumentError(
            f"got values of shape {contents.shape} for a graph of {pages} pages; pass [{pages}, words], by page id"
        )
    return jnp.asarray(contents)


def _reweighted(graph: RuleGraph, weight: Any) -> RuleGraph:
    if graph.in_weight is None:
        raise InvalidArgumentError("got weight=…, but the graph was made without; give it weights to be replaced")
    weights = jnp.asarray(weight)
    if weights.dtype != jnp.float32 or weights.ndim != 1:
        raise InvalidTypeError(f"got weights {weights.dtype}{list(weights.shape)}; pass float32, one an edge")
    if graph.num_edges is None:
        raise InvalidArgumentError("got weight=… and rules that are `rounded`; pass what RuleGraph.of(…) made")
    if weights.shape[0] != graph.num_edges:
        raise InvalidArgumentError(
            f"got {weights.shape[0]} weights for {graph.num_edges} edges; pass one for each edge of the graph that the "
            "rules were laid out for, in its order"
        )
    chosen = weights.at[graph.in_edge].get(mode="promise_in_bounds")
    # Nothing is known of the new weights: none may be cut off.
    return dataclasses.replace(graph, in_weight=chosen, whole_weights=False)
