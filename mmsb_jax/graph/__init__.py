"""Layer 3: what depends on what.

A `ShadowPageGraph` shadows the pages of a state: one vertex per page, one edge per dependency. It is built and
validated on the host, once; the layers above plan their jitted work from its arrays.
"""

from ._edges import EdgeKind
from ._graph import ShadowPageGraph
from ._svg import to_svg
from ._validate import Check, GraphReport, validate_edges

__all__ = ["Check", "EdgeKind", "GraphReport", "ShadowPageGraph", "to_svg", "validate_edges"]
