"""Which pages a wave can touch, known on the host before it runs."""

import numpy as np
from jaxtyping import Int32

from ..graph._traverse import Adjacency, edges_at, reach
from ._plan import RuleGraph

__all__ = ["pages_needed"]


def pages_needed(graph: RuleGraph, dirty: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " found"]:
    """The pages that a wave from some dirty pages may read or write, ascending: those it can reach, and their parents.

    **Arguments:**

    - `dirty`: int32, ids of pages; they count only where they have a rule, or a child that the wave reaches.

    ```python
    >>> import mmsb_jax as mmsb
    >>> from mmsb_jax.propagation import pages_needed
    >>> term = mmsb.Term(mmsb.semiring.plus_times, read=lambda parent: parent[0])
    >>> rule = mmsb.Rule("copy", pages=[1, 3], terms=[term], update=lambda own, x: own.at[0].set(x))
    >>> graph = mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0, 2, 2], [1, 1, 3], num_pages=5), [rule])
    >>> pages_needed(graph, np.int32([0])).tolist(), pages_needed(graph, np.int32([3, 4])).tolist()
    ([0, 1, 2], [2, 3])

    ```
    """
    stage = np.asarray(graph.stage_of_page)
    if graph.number is not None:
        dirty = np.asarray(graph.number)[dirty]
    outwards = Adjacency(np.asarray(graph.out_start), None, np.asarray(graph.out_child))
    inwards = Adjacency(np.asarray(graph.in_start), None, np.asarray(graph.in_parent))
    computed = reach(outwards, dirty)
    computed[dirty[stage[dirty] < graph.num_stages]] = True
    ids = np.flatnonzero(computed)
    parents = inwards.neighbour[edges_at(inwards, ids)]
    found = np.union1d(ids, parents).astype(np.int32)
    return found if graph.page is None else np.sort(np.asarray(graph.page)[found])
