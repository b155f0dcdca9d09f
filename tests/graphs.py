"""Random graphs for tests, and the same as networkx has them."""

import hypothesis.strategies as st
import networkx as nx

from mmsb_jax.graph import EdgeKind, ShadowPageGraph

KINDS = list(EdgeKind)


@st.composite
def edge_lists(draw, acyclic=True, max_pages=12, max_edges=40):
    """`(pages, edges)`; an edge is (parent, child, kind)."""
    pages = draw(st.integers(1, max_pages))
    ids = st.integers(0, pages - 1)
    edges = draw(st.lists(st.tuples(ids, ids, st.sampled_from(KINDS)), max_size=max_edges))
    if acyclic:  # an order of the pages that isn't the order of their ids
        rank = draw(st.permutations(range(pages)))
        edges = [((a, b) if rank[a] < rank[b] else (b, a)) + (k,) for a, b, k in edges if a != b]
    return pages, edges


def build(pages, edges, **more):
    parent, child, kind = ([e[i] for e in edges] for i in range(3))
    return ShadowPageGraph.from_edges(parent, child, kind=kind, num_pages=pages, **more)


def oracle(pages, edges, kind=None):
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(pages))
    graph.add_edges_from((a, b) for a, b, k in edges if kind is None or k == kind)
    return graph
