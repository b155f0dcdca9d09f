"""Layer 3: what depends on what.

A `ShadowPageGraph` shadows the pages of a state: one vertex per page, one edge per dependency. It is built and
validated on the host, once; the layers above plan their jitted work from its arrays. `GraphBuilder` is for graphs
written by hand, `from_…` and `to_…` for those of other packages.
"""

from ._builder import GraphBuilder, PageGroup
from ._edges import EdgeKind
from ._graph import ShadowPageGraph
from ._interchange import from_networkx, from_rustworkx, from_scipy, to_networkx, to_rustworkx, to_scipy
from ._markup import to_dot, to_mermaid
from ._named import NamedGraph
from ._svg import to_svg
from ._validate import Check, GraphReport, validate_edges

__all__ = [
    "Check",
    "EdgeKind",
    "GraphBuilder",
    "GraphReport",
    "NamedGraph",
    "PageGroup",
    "ShadowPageGraph",
    "from_networkx",
    "from_rustworkx",
    "from_scipy",
    "to_dot",
    "to_mermaid",
    "to_networkx",
    "to_rustworkx",
    "to_scipy",
    "to_svg",
    "validate_edges",
]
