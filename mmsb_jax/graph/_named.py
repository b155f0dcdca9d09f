"""A graph together with the names of its pages."""

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from .._errors import GraphCycleError
from ._cycle import cycle_error
from ._graph import ShadowPageGraph
from ._svg import to_svg


class NamedGraph(NamedTuple):
    """A graph and the page id of each name. `graph, names = …` takes it apart, and whatever takes a graph and names
    takes both as `to_dot(*named)`; a notebook shows it with its names.

    >>> from mmsb_jax.graph import GraphBuilder
    >>> build = GraphBuilder("tea", "total")
    >>> _ = build["tea"] >> build["total"]
    >>> graph, names = build.build()
    >>> graph.parents(names["total"]).tolist() == [names["tea"]]
    True
    """

    graph: ShadowPageGraph
    names: dict[Hashable, int]

    def _repr_svg_(self) -> str:  # a notebook shows a picture
        return to_svg(self.graph, self.names)


def naming_cycles(names: Mapping[Hashable, int], make: Callable[[], ShadowPageGraph]) -> ShadowPageGraph:
    """What `make` makes. A `GraphCycleError` of it names the pages."""
    try:
        return make()
    except GraphCycleError as error:
        raise cycle_error(error.cycle, {page: str(name) for name, page in names.items()}) from None
