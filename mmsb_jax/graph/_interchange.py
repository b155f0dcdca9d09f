"""To and from networkx, rustworkx and SciPy. The packages that aren't needed otherwise are imported when called for."""

import importlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from .._errors import InvalidArgumentError, InvalidTypeError, MissingPackageError
from .._require import whole_number
from ._arrays import require_graph
from ._edges import EdgeKind
from ._graph import ShadowPageGraph
from ._named import NamedGraph, naming_cycles
from ._names import name_of_page

Edge = tuple[Hashable, Hashable, Mapping[str, Any]]


def to_networkx(
    graph: ShadowPageGraph | Any, names: Mapping[Hashable, int] | Any = None, *, multigraph: bool = True
) -> Any:
    """The graph as a `networkx.MultiDiGraph`, or with `multigraph=False` a `networkx.DiGraph`.

    A page is a node: its name, where `names` has one, or its id. Edges carry `kind`, the name of an `EdgeKind`, and
    `weight` if the graph has weights. Raises `InvalidArgumentError` for parallel edges in a DiGraph, as `to_dot` for
    names, and `MissingPackageError` without networkx.

    >>> graph = ShadowPageGraph.from_edges([0, 1], [2, 2], weight=[0.5, 2], num_pages=3)
    >>> list(to_networkx(graph, {"total": 2}).edges(data="weight"))
    [(0, 'total', 0.5), (1, 'total', 2.0)]
    """
    require_graph(graph)
    networkx = _package("networkx")
    nodes = _nodes(graph, names)
    made = networkx.MultiDiGraph() if multigraph else networkx.DiGraph()
    if not multigraph and _parallel(graph):
        raise InvalidArgumentError(
            "the graph has parallel edges, and a DiGraph holds one between two nodes; take a MultiDiGraph "
            "(multigraph=True), or a subgraph(kind=…)"
        )
    made.add_nodes_from(nodes)
    ends = zip(graph.parent.tolist(), graph.child.tolist(), strict=True)
    made.add_edges_from(
        (nodes[parent], nodes[child], data) for (parent, child), data in zip(ends, _data(graph), strict=True)
    )
    return made


def from_networkx(source: Any, *, weight: str = "weight", kind: str = "kind") -> NamedGraph:
    """The graph of a directed graph of networkx, and the page id of each of its nodes.

    Nodes that are the numbers 0 to n - 1 keep them as ids, others are numbered in their order. Edge attributes of the
    names `weight` and `kind` become weights and kinds; weights are for all edges or for none, and an edge without a
    kind is DATA. Raises `GraphCycleError` (which names the nodes), `InvalidTypeError` for what is no directed graph of
    networkx, `InvalidArgumentError` for weights of some edges only, and what `from_edges` raises for their values.

    >>> import networkx as nx
    >>> graph, names = from_networkx(nx.DiGraph([("milk", "total"), ("tea", "total")]))
    >>> names
    {'milk': 0, 'total': 1, 'tea': 2}
    >>> graph.parents(names["total"]).tolist()
    [0, 2]
    """
    networkx = _package("networkx")
    if not isinstance(source, networkx.Graph) or not source.is_directed():
        raise InvalidTypeError(
            f"got a {type(source).__name__}; pass a networkx.DiGraph or MultiDiGraph (of an undirected graph, "
            "`networkx.DiGraph` makes both directions, which is a cycle)"
        )
    return _named(list(source.nodes), source.edges(data=True), weight, kind)


def to_rustworkx(graph: ShadowPageGraph | Any, names: Mapping[Hashable, int] | Any = None) -> Any:
    """The graph as a `rustworkx.PyDiGraph`, whose node indices are the page ids.

    The payload of a node is its name, or its id; that of an edge a dict with `kind`, and `weight` if there are weights.
    Raises as `to_dot` for names, and `MissingPackageError` without rustworkx.

    >>> import rustworkx as rx
    >>> made = to_rustworkx(ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3))
    >>> list(rx.topological_sort(made))[-1], made.get_edge_data(0, 2)
    (2, {'kind': 'data'})
    """
    require_graph(graph)
    made = _package("rustworkx").PyDiGraph(multigraph=True)
    made.add_nodes_from(_nodes(graph, names))
    made.add_edges_from(list(zip(graph.parent.tolist(), graph.child.tolist(), _data(graph), strict=True)))
    return made


def from_rustworkx(source: Any) -> NamedGraph:
    """The graph of a `rustworkx.PyDiGraph`, and the page id of each of its nodes, by payload.

    Nodes are numbered in the order of their indices, which may have gaps. Where payloads can't be names, as they are
    equal or can't be hashed, the indices are the names. The payload of an edge is a dict with `weight` and `kind`,
    both optional, or a number, its weight, or None. Raises as `from_networkx`.

    >>> import rustworkx as rx
    >>> source = rx.PyDiGraph()
    >>> tea, total = source.add_nodes_from(["tea", "total"])
    >>> _ = source.add_edge(tea, total, 0.5)
    >>> graph, names = from_rustworkx(source)
    >>> names, graph.weight.tolist()
    ({'tea': 0, 'total': 1}, [0.5])
    """
    if not isinstance(source, _package("rustworkx").PyDiGraph):
        raise InvalidTypeError(f"got a {type(source).__name__}; pass a rustworkx.PyDiGraph")
    indices, payloads = list(source.node_indices()), list(source.nodes())
    node = dict(zip(indices, payloads if _can_be_names(payloads) else indices, strict=True))
    edges = [(node[a], node[b], _payload(data, a, b)) for a, b, data in source.weighted_edge_list()]
    return _named(list(node.values()), edges, "weight", "kind")


def to_scipy(graph: ShadowPageGraph | Any, kind: ArrayLike | None = None) -> sparse.coo_array:
    """The edges (of that kind) as a `scipy.sparse.coo_array` of shape [pages, pages], `A[parent, child]`.

    So `scipy.sparse.csgraph` has it; `A.T` is what `SparseMatrix.from_scipy` takes to gather from parents. Entries are
    float32 weights, or True without weights. Parallel edges are several entries, which SciPy adds up when it converts;
    kinds and names have no place in a matrix.

    >>> graph = ShadowPageGraph.from_edges([0, 1], [2, 2], weight=[0.5, 2], num_pages=3)
    >>> to_scipy(graph).toarray()[:, 2].tolist()
    [0.5, 2.0, 0.0]
    """
    require_graph(graph)
    chosen = slice(None) if kind is None else graph.kind == EdgeKind.parse(kind)
    value = np.ones(graph.num_edges, np.bool_) if graph.weight is None else graph.weight
    size = graph.num_pages
    return sparse.coo_array((value[chosen], (graph.parent[chosen], graph.child[chosen])), shape=(size, size))


def from_scipy(matrix: Any, *, kind: ArrayLike | None = None) -> ShadowPageGraph:
    """The graph whose edges are the entries of a sparse matrix, `A[parent, child]`: the values are the weights.

    Takes any matrix or array of `scipy.sparse`; entries that were stored as nought are edges too. A matrix of bools
    makes a graph without weights. `kind` is that of all edges. Raises `InvalidTypeError` for anything else,
    `InvalidArgumentError` for a matrix that isn't square, and what `from_edges` raises, a cycle above all.

    >>> import scipy.sparse as sparse
    >>> from_scipy(sparse.coo_array(([True, True], ([0, 1], [2, 2])), shape=(3, 3)))
    ShadowPageGraph(3 pages, 2 edges: 2 data; 2 levels, unweighted)
    """
    if not sparse.issparse(matrix):
        raise InvalidTypeError(
            f"got a {type(matrix).__name__}; pass a matrix of scipy.sparse, for instance coo_array(dense)"
        )
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidArgumentError(f"got a matrix of shape {matrix.shape}; a row and a column are needed for each page")
    entries = matrix.tocoo()
    weight = None if entries.dtype == np.bool_ else entries.data
    return ShadowPageGraph.from_edges(entries.row, entries.col, weight=weight, kind=kind, num_pages=matrix.shape[0])


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as why:
        raise MissingPackageError(
            f"{name} isn't installed ({why}); install it by: pip install 'mmsb-jax[graphs]'"
        ) from why


def _nodes(graph: ShadowPageGraph | Any, names: Any) -> list[Hashable]:
    known = name_of_page(names, graph.num_pages)
    return [known.get(page, page) for page in range(graph.num_pages)]


def _data(graph: ShadowPageGraph) -> Iterable[dict[str, Any]]:
    kinds = [EdgeKind(kind).name.lower() for kind in EdgeKind]
    if graph.weight is None:
        return [{"kind": kinds[kind]} for kind in graph.kind.tolist()]
    both = zip(graph.kind.tolist(), graph.weight.tolist(), strict=True)
    return [{"kind": kinds[kind], "weight": weight} for kind, weight in both]


def _parallel(graph: ShadowPageGraph) -> bool:
    return bool(((graph.child[1:] == graph.child[:-1]) & (graph.parent[1:] == graph.parent[:-1])).any())


def _named(nodes: list[Hashable], edges: Iterable[Edge], weight: str, kind: str) -> NamedGraph:
    names = _numbered(nodes)
    ends, data = [], []
    for parent, child, attributes in edges:
        ends.append((parent, child))
        data.append(attributes)
    weights = [attributes.get(weight) for attributes in data]
    bare = [end for end, value in zip(ends, weights, strict=True) if value is None]
    if bare and len(bare) < len(ends):
        raise InvalidArgumentError(
            f"the edge {bare[0][0]!r} -> {bare[0][1]!r} has no {weight!r}, others have ({len(bare)} of {len(ends)} "
            "lack it); give one to every edge, or name an attribute that none of them has"
        )
    kinds = [attributes.get(kind, EdgeKind.DATA) for attributes in data]
    parents, children = [names[parent] for parent, _ in ends], [names[child] for _, child in ends]
    weight_of_edge: Any = None if bare or not ends else weights
    kind_of_edge = [EdgeKind.parse(value) for value in kinds]
    graph = naming_cycles(
        names,
        lambda: ShadowPageGraph.from_edges(
            parents, children, weight=weight_of_edge, kind=kind_of_edge, num_pages=len(names)
        ),
    )
    return NamedGraph(graph, names)


def _numbered(nodes: list[Hashable]) -> dict[Hashable, int]:
    numbers = [whole_number(node) for node in nodes]
    if None not in numbers and sorted(numbers) == list(range(len(nodes))):  # type: ignore[type-var]
        return {node: number for number, node in sorted(zip(numbers, nodes, strict=True))}  # type: ignore[misc]
    return {node: number for number, node in enumerate(nodes)}


def _can_be_names(payloads: list[Any]) -> bool:
    try:
        return max(Counter(payloads).values(), default=0) <= 1
    except TypeError:  # one of them has no hash
        return False


def _payload(data: Any, parent: int, child: int) -> Mapping[str, Any]:
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return data
    if isinstance(data, int | float | np.number) and not isinstance(data, bool):
        return {"weight": data}
    raise InvalidTypeError(
        f"the edge {parent} -> {child} carries a {type(data).__name__}; a dict with 'weight' and 'kind', a number, or "
        "None can be read"
    )
