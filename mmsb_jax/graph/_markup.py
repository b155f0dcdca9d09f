"""A graph as text that other programs draw: DOT for Graphviz, Mermaid for Markdown."""

from collections.abc import Hashable, Mapping
from typing import Any

from .._text import counted, printable
from ._arrays import require_graph
from ._edges import EdgeKind
from ._graph import ShadowPageGraph
from ._names import label_of_page
from ._svg import drawn_pages

_DOT_STYLE = {
    EdgeKind.DATA: "solid",
    EdgeKind.CONTROL: "dashed",
    EdgeKind.DEVICE_SYNC: "dotted",
    EdgeKind.COMPILER: "bold",
}
_MERMAID_ARROW = {
    EdgeKind.DATA: "-->",
    EdgeKind.CONTROL: "-.->",
    EdgeKind.DEVICE_SYNC: "--o",
    EdgeKind.COMPILER: "==>",
}


def to_dot(graph: ShadowPageGraph | Any, names: Mapping[Hashable, int] | Any = None) -> str:
    """The graph in Graphviz's language, left to right; the kinds are solid, dashed, dotted and bold lines.

    `names` maps names to page ids. Pages with neither edge nor name are left out, which a comment says. Raises
    `InvalidTypeError`, `InvalidArgumentError` and `PageNotFoundError` for names that don't fit the graph.

    >>> graph = ShadowPageGraph.from_edges([0], [1], weight=0.5, kind="control", num_pages=9)
    >>> print(to_dot(graph, {"tea": 0}))
    digraph {
      // left out: 7 pages with neither edge nor name
      rankdir=LR
      node [shape=box style=rounded]
      p0 [label="tea"]
      p1 [label="1"]
      p0 -> p1 [style=dashed label="0.5"]
    }
    """
    pages, label, left_out = _shown(graph, names)
    lines = ["digraph {", *(f"  // {text}" for text in left_out), "  rankdir=LR", "  node [shape=box style=rounded]"]
    lines += [f'  p{page} [label="{_dot_text(label[page])}"]' for page in pages]
    for parent, child, kind, weight in _edges(graph):
        label_of_edge = "" if weight is None else f' label="{weight:g}"'
        lines.append(f"  p{parent} -> p{child} [style={_DOT_STYLE[kind]}{label_of_edge}]")
    return "\n".join([*lines, "}"])


def to_mermaid(graph: ShadowPageGraph | Any, names: Mapping[Hashable, int] | Any = None) -> str:
    """The graph as a Mermaid flowchart, which GitHub and many notebooks draw from Markdown.

    Arrows: `-->` data, `-.->` control, `--o` device sync, `==>` compiler. Otherwise as `to_dot`.

    >>> graph = ShadowPageGraph.from_edges([0], [1], weight=0.5, num_pages=2)
    >>> print(to_mermaid(graph, {"tea": 0, "total": 1}))
    flowchart LR
      p0["tea"]
      p1["total"]
      p0 -->|"0.5"| p1
    """
    pages, label, left_out = _shown(graph, names)
    lines = ["flowchart LR", *(f"  %% {text}" for text in left_out)]
    lines += [f'  p{page}["{_mermaid_text(label[page])}"]' for page in pages]
    for parent, child, kind, weight in _edges(graph):
        label_of_edge = "" if weight is None else f'|"{weight:g}"|'
        lines.append(f"  p{parent} {_MERMAID_ARROW[kind]}{label_of_edge} p{child}")
    return "\n".join(lines)


def _shown(graph: ShadowPageGraph | Any, names: Any) -> tuple[list[int], dict[int, str], list[str]]:
    require_graph(graph)
    labels = label_of_page(names, graph.num_pages)
    pages = drawn_pages(graph, labels)
    left = graph.num_pages - len(pages)
    told = [f"left out: {counted(left, 'page')} with neither edge nor name"] if left else []
    return pages, {page: printable(labels.get(page, str(page))) for page in pages}, told


def _edges(graph: ShadowPageGraph) -> list[tuple[int, int, EdgeKind, float | None]]:
    weights = [None] * graph.num_edges if graph.weight is None else graph.weight.tolist()
    kinds = [EdgeKind(kind) for kind in graph.kind.tolist()]
    return list(zip(graph.parent.tolist(), graph.child.tolist(), kinds, weights, strict=True))


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _mermaid_text(text: str) -> str:
    # Mermaid has entities, written with # instead of &; backticks would begin Markdown.
    return "".join(f"#{ord(letter)};" if letter in '#"`<>&;' else letter for letter in text)
