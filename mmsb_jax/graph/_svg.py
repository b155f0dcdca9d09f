"""A picture of a graph as SVG, for notebooks: pages in columns by level, or how many there are on each level."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from html import escape
from typing import Any, NamedTuple

import numpy as np

from .._text import counted, printable
from ._arrays import EdgeArrays, require_graph
from ._edges import EdgeKind
from ._layout import Layout, arrange
from ._names import label_of_page

# More than this nobody reads.
_MOST_PAGES, _MOST_EDGES, _MOST_WEIGHTS, _MOST_BARS, _LONGEST, _ABREAST = 60, 180, 40, 40, 24, 6

_ROW, _BOX, _GAP, _MARGIN, _LETTER, _ARROW = 38, 26, 70, 16, 7.2, 8

_INK, _PAPER, _FAINT, _FILL = "#1f2937", "#ffffff", "#6b7280", "#f3f4f6"
# Colour and dashes: told apart in black and white as well.
_STYLE = {
    EdgeKind.DATA: ("#475569", ""),
    EdgeKind.CONTROL: ("#c2410c", "7 4"),
    EdgeKind.DEVICE_SYNC: ("#0369a1", "2 3"),
    EdgeKind.COMPILER: ("#7e22ce", "10 3 2 3"),
}


def to_svg(graph: EdgeArrays | Any, names: Mapping[Hashable, int] | Any = None) -> str:
    """The graph as the text of an SVG file; a notebook shows the same for a graph by itself.

    `names` maps names to page ids. Pages stand in columns by level, and edges lead to the right; the kinds are told
    apart by colour and dashes, and a line below says what was left out: pages with neither edge nor name. With more
    than 60 pages or 180 edges nothing could be read any more, and the picture shows how many pages are on each level;
    `subgraph(pages)` draws a part. Raises as `to_dot` does for names.

    >>> import mmsb_jax as mmsb
    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3)
    >>> to_svg(graph, {"tea": 0, "milk": 1, "total": 2})[:4]
    '<svg'
    """
    require_graph(graph)
    labels = label_of_page(names, graph.num_pages)
    pages = drawn_pages(graph, labels)
    edges = Counter(zip(graph.parent.tolist(), graph.child.tolist(), strict=True)) if len(pages) <= _MOST_PAGES else {}
    if len(pages) > _MOST_PAGES or len(edges) > _MOST_EDGES:
        return _summary(graph, len(pages))
    return _Drawing(graph, pages, labels).text()


def drawn_pages(graph: EdgeArrays, labels: Mapping[int, str]) -> list[int]:
    """Pages that have an edge or a name."""
    shown = (np.diff(graph.in_start) > 0) | (np.diff(graph.out_start) > 0)
    shown[list(labels)] = True
    return np.flatnonzero(shown).tolist()


class _Arrow(NamedTuple):
    pair: tuple[int, int]
    kind: EdgeKind
    weight: float | None
    way: int


class _Drawing:
    """One picture: pages and edges with their places on paper."""

    def __init__(self, graph: EdgeArrays, pages: list[int], labels: Mapping[int, str]) -> None:
        self.graph, self.pages = graph, pages
        self.label = {page: _short(printable(labels.get(page, str(page)))) for page in pages}
        self.full = {page: f"page {page}" + (f": {labels[page]}" if page in labels else "") for page in pages}
        self.column = {page: int(graph.levels()[page]) for page in pages}
        weights = [None] * graph.num_edges if graph.weight is None else graph.weight.tolist()
        ends = zip(graph.parent.tolist(), graph.child.tolist(), strict=True)
        pairs: dict[tuple[int, int], int] = {}
        self.arrows = [
            _Arrow(pair, EdgeKind(kind), weight, pairs.setdefault(pair, len(pairs)))
            for pair, kind, weight in zip(ends, graph.kind.tolist(), weights, strict=True)
        ]
        self.layout = self._arranged(list(pairs))
        self._spread_columns()
        self.leaving = self._ports(0)
        self.arriving = self._ports(1)
        order = sorted(range(len(self.arrows)), key=lambda i: (self.arrows[i].pair[1], self.arriving[i]))
        self.turn = {number: i for i, number in enumerate(order)}  # neighbours at one page take turns

    def _arranged(self, pairs: list[tuple[int, int]]) -> Layout:
        """Places of the pages that have edges; those that have none stand in rows below."""
        linked = sorted({page for pair in pairs for page in pair})
        layout = arrange(linked, [self.column[page] for page in linked], pairs)
        alone = [page for page in self.pages if page not in layout.row]
        columns = max(self.column.values(), default=0) + 1 if pairs else min(len(alone), _ABREAST)
        for i, page in enumerate(alone):
            self.column[page] = i % columns
            layout.row[page] = layout.height + 0.5 + i // columns
        return layout._replace(height=layout.height + (-(-len(alone) // columns) if alone else 0))

    def _spread_columns(self) -> None:
        widths = [44.0] * (max(self.column.values(), default=-1) + 1)
        for page, text in self.label.items():
            widths[self.column[page]] = max(widths[self.column[page]], 20 + _LETTER * _cells(text))
        shown = self.graph.weight is not None and len(self.arrows) <= _MOST_WEIGHTS
        gap = _GAP + 30 * shown
        self.width = widths
        self.left = [_MARGIN + sum(widths[:i]) + gap * i for i in range(len(widths))]
        self.right = [left + width for left, width in zip(self.left, widths, strict=True)]
        self.weights_shown = shown

    def _ports(self, end: int) -> list[float]:
        """For each arrow, how far from the middle of its page it begins (or ends): sorted by where it comes from."""
        at: dict[int, list[int]] = {}
        for number, arrow in enumerate(self.arrows):
            at.setdefault(arrow.pair[end], []).append(number)
        offset = [0.0] * len(self.arrows)
        for arrows in at.values():
            arrows.sort(key=lambda number: self.layout.ways[self.arrows[number].way][1 if end == 0 else -2])
            step = min(7.0, (_BOX - 8) / max(1, len(arrows) - 1))
            for i, number in enumerate(arrows):
                offset[number] = (i - (len(arrows) - 1) / 2) * step
        return offset

    def _y(self, row: float) -> float:
        return _MARGIN + row * _ROW

    def text(self) -> str:
        captions = _captions(self.graph, len(self.pages))
        kinds = [kind for kind in EdgeKind if any(arrow.kind == kind for arrow in self.arrows)]
        bottom = self._y(self.layout.height) + 10
        width = max(self.right, default=_MARGIN)
        parts = [*(self._edge(i) for i in range(len(self.arrows))), *map(self._box, self.pages)]
        if self.weights_shown:
            parts += [self._weight(i) for i in range(len(self.arrows))]
        legend, legend_width = _legend(kinds, bottom + 14)
        height = bottom + 20 + 16 * len(captions)
        parts += [legend, *(_line(_MARGIN, bottom + 34 + 16 * i, text) for i, text in enumerate(captions))]
        wide = max([width, legend_width, *(_MARGIN + 6.2 * len(text) for text in captions)]) + _MARGIN
        return _svg(wide, height + 24, parts)

    def _points(self, number: int) -> list[tuple[float, float]]:
        """Points that the curve passes horizontally: from the parent's box, along each bend, to the child's."""
        arrow = self.arrows[number]
        way = self.layout.ways[arrow.way]
        first = self.column[arrow.pair[0]]
        points = [(self.right[first], self._y(way[0]) + self.leaving[number])]
        twins = [i for i, other in enumerate(self.arrows) if other.way == arrow.way]
        aside = 6 * (twins.index(number) - (len(twins) - 1) / 2)
        for i, row in enumerate(way[1:-1], first + 1):
            points += [(self.left[i], self._y(row) + aside), (self.right[i], self._y(row) + aside)]
        return [*points, (self.left[self.column[arrow.pair[1]]] - 1, self._y(way[-1]) + self.arriving[number])]

    def _edge(self, number: int) -> str:
        arrow = self.arrows[number]
        colour, dashes = _STYLE[arrow.kind]
        points = self._points(number)
        tip_x, tip_y = points[-1]
        points[-1] = (tip_x - _ARROW + 1, tip_y)
        x, y = points[0]
        path = [f"M{x:.1f} {y:.1f}"]
        for next_x, next_y in points[1:]:
            half = (next_x - x) / 2
            path.append(f"C{x + half:.1f} {y:.1f} {next_x - half:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}")
            x, y = next_x, next_y
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        said = f"{self.full[arrow.pair[0]]} → {self.full[arrow.pair[1]]}, {_title(arrow.kind)}"
        said += "" if arrow.weight is None else f", weight {arrow.weight:g}"
        head = f"M{tip_x:.1f} {tip_y:.1f}l-{_ARROW} -3.6v7.2z"
        return (
            f'<g stroke="{colour}" stroke-width="1.4"><title>{_text(said)}</title>'
            f'<path d="{"".join(path)}" fill="none"{dashed}/><path d="{head}" fill="{colour}" stroke="none"/></g>'
        )

    def _weight(self, number: int) -> str:
        points, arrow = self._points(number), self.arrows[number]
        # The last piece of the way is the arrow's own. There its label stands, neighbours' at other heights of it.
        (x, y), (end_x, end_y) = points[-2:]
        part = 0.7 if self.turn[number] % 2 else 0.36
        curve = 3 * part**2 * (1 - part) + part**3
        text = f"{arrow.weight:g}"
        middle = (x + (end_x - x) * (1.5 * part * (1 - part) + part**3), y + (end_y - y) * curve)
        wide = 6.0 * len(text) + 4
        return (
            f'<rect x="{middle[0] - wide / 2:.1f}" y="{middle[1] - 7:.1f}" width="{wide:.1f}" height="13" rx="3" '
            f'fill="{_PAPER}" fill-opacity="0.9"/>'
            f'<text x="{middle[0]:.1f}" y="{middle[1] + 3.5:.1f}" text-anchor="middle" font-size="10" '
            f'fill="{_STYLE[arrow.kind][0]}">{text}</text>'
        )

    def _box(self, page: int) -> str:
        column = self.column[page]
        x, y, width = self.left[column], self._y(self.layout.row[page]), self.width[column]
        return (
            f'<g><title>{_text(self.full[page])}</title><rect x="{x:.1f}" y="{y - _BOX / 2:.1f}" width="{width:.1f}" '
            f'height="{_BOX}" rx="6" fill="{_FILL}" stroke="{_FAINT}"/>'
            f'<text x="{x + width / 2:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="{_INK}">'
            f"{_text(self.label[page])}</text></g>"
        )


def _summary(graph: EdgeArrays, connected: int) -> str:
    """Bars: how many pages are on each level."""
    level = graph.levels()
    linked = (np.diff(graph.in_start) > 0) | (np.diff(graph.out_start) > 0)
    per_level = np.bincount(level[linked])
    bars = min(len(per_level), _MOST_BARS)
    bounds = np.linspace(0, len(per_level), bars + 1).astype(int)
    counts = np.add.reduceat(per_level, bounds[:-1])
    high, step = 120, max(18, min(64, 640 // max(1, bars)))
    parts = [_line(_MARGIN, 24, "pages on each level" if bars == len(per_level) else "pages on each stretch of levels")]
    roomy = step >= 12 + 6 * max(len(f"{count:,}") for count in counts.tolist())
    floor = 48 + high
    for i, count in enumerate(counts.tolist()):
        x, tall = _MARGIN + i * step, max(1.0, high * count / counts.max())
        last = bounds[i + 1] - 1
        where = f"level {bounds[i]}" if last == bounds[i] else f"levels {bounds[i]} to {last}"
        parts.append(
            f'<g><title>{where}: {counted(count, "page")}</title><rect x="{x + 2}" y="{floor - tall:.1f}" '
            f'width="{step - 4}" height="{tall:.1f}" rx="2" fill="{_STYLE[EdgeKind.DATA][0]}"/></g>'
        )
        if roomy:
            parts.append(_line(x + step / 2, floor - tall - 5, f"{count:,}", "middle"))
        if i % max(1, 36 // step) == 0:
            parts.append(_line(x + step / 2, floor + 14, str(bounds[i]), "middle"))
    captions = [
        *_captions(graph, connected),
        f"Pages aren't drawn one by one, as {counted(connected, 'page')} couldn't be read "
        f"(at most {_MOST_PAGES}, with {_MOST_EDGES} edges): graph.subgraph(pages) draws a part.",
    ]
    parts += [_line(_MARGIN, floor + 38 + 16 * i, text) for i, text in enumerate(captions)]
    width = max(bars * step, *(6.2 * len(text) for text in captions)) + 2 * _MARGIN
    return _svg(width, floor + 38 + 16 * len(captions), parts)


def _captions(graph: EdgeArrays, shown: int) -> list[str]:
    counts = np.bincount(graph.kind, minlength=len(EdgeKind)).tolist()
    kinds = ", ".join(f"{counts[kind]:,} {_title(kind)}" for kind in EdgeKind if counts[kind])
    depth = int(graph.levels().max(initial=-1)) + 1
    captions = [
        f"{counted(graph.num_pages, 'page')}, {counted(graph.num_edges, 'edge')}"
        + (f" ({kinds})" if kinds else "")
        + f", {counted(depth, 'level')}"
    ]
    if left := graph.num_pages - shown:
        captions.append(f"Left out: {counted(left, 'page')} with neither edge nor name.")
    return captions


def _legend(kinds: Iterable[EdgeKind], y: float) -> tuple[str, float]:
    x, parts = float(_MARGIN), []
    for kind in kinds:
        colour, dashes = _STYLE[kind]
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(f'<path d="M{x:.1f} {y - 4:.1f}h34" stroke="{colour}" stroke-width="1.8"{dashed}/>')
        parts.append(_line(x + 40, y, _title(kind)))
        x += 40 + _LETTER * len(_title(kind)) + 20
    return "".join(parts), x


def _line(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="{_FAINT}" text-anchor="{anchor}">{_text(text)}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="12"><rect {size} rx="8" fill="{_PAPER}"/>'
        f"{''.join(parts)}</svg>"
    )


def _title(kind: EdgeKind) -> str:
    return kind.name.lower().replace("_", " ")


def _text(text: str) -> str:
    return escape(printable(text))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _cells(text: str) -> int:
    """Width of text in letters; those beyond the alphabets of Europe are about twice as wide."""
    return sum(2 if ord(letter) > 0x1100 else 1 for letter in text)
