"""Layer 3: what depends on what.

A `ShadowPageGraph` shadows the pages of a state: one vertex per page, one edge per dependency. It is built and
validated on the host, once; the layers above plan their jitted work from its arrays.
"""

from ._edges import EdgeKind
from ._graph import ShadowPageGraph

__all__ = ["EdgeKind", "ShadowPageGraph"]
