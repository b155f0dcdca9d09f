"""Pictures of graphs: as SVG, and as text for Graphviz and Mermaid."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given

from mmsb_jax.graph import EdgeKind, GraphBuilder, ShadowPageGraph, _layout, to_dot, to_mermaid, to_svg
from tests.graphs import build, edge_lists

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def titles(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def boxes(svg):
    """(x, y, width, height) of each page."""
    root = ElementTree.fromstring(svg)
    found = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    return [tuple(float(box.get(name)) for name in ("x", "y", "width", "height")) for box in found]


@given(edge_lists(max_pages=20, max_edges=50), st.booleans())
def test_every_page_and_edge_is_drawn_and_no_two_pages_overlap(case, weighted):
    pages, edges = case
    graph = build(*case, weight=np.arange(len(edges)) / 2 if weighted and edges else None)
    names = {f"<{page}>": page for page in range(pages)}
    svg = to_svg(graph, names)
    assert {*names} <= {*texts(svg)}
    drawn = [re.match(r"page (\d+): \S+ → page (\d+): \S+, ([a-z ]+)", title) for title in titles(svg)]
    shown = sorted((int(m[1]), int(m[2]), m[3].split(",")[0].replace(" ", "_")) for m in drawn if m)
    assert shown == sorted((a, b, EdgeKind(k).name.lower()) for a, b, k in edges)
    found = boxes(svg)
    assert len(found) == pages
    for i, (x, y, width, height) in enumerate(found):
        assert all(x + width < p or p + w < x or y + height < q or q + h < y for p, q, w, h in found[:i])
    size = ElementTree.fromstring(svg)
    assert all(x >= 0 and x + w <= float(size.get("width")) for x, _, w, _ in found)
    assert all(y >= 0 and y + h <= float(size.get("height")) for _, y, _, h in found)


@given(edge_lists(max_pages=20))
def test_edges_lead_to_the_right(case):
    svg = to_svg(build(*case), {f"{page}": page for page in range(case[0])})
    left = {int(title.split(":")[0][5:]): box[0] for title, box in zip(_pages(svg), boxes(svg), strict=True)}
    assert all(left[a] < left[b] for a, b, _ in case[1])


def _pages(svg):
    return [title for title in titles(svg) if "→" not in title]


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=8), st.data())
def test_rows_keep_their_order_and_their_distance(wanted, data):
    nodes = list(range(len(wanted)))
    height = data.draw(st.lists(st.sampled_from([1.0, 0.45]), min_size=len(wanted), max_size=len(wanted)))
    row = [0.0] * len(wanted)
    _layout._settle(nodes, wanted, row, height)
    room = [(a + b) / 2 for a, b in itertools.pairwise(height)]
    assert all(b - a >= gap - 1e-9 for a, b, gap in zip(row, row[1:], room, strict=False))
    # No better rows: moving any block of rows by a little in either direction makes it no better.
    error = sum((r - w) ** 2 for r, w in zip(row, wanted, strict=True))
    for first in nodes:
        for last in nodes[first:]:
            for step in (-1e-3, 1e-3):
                moved = [r + step * (first <= i <= last) for i, r in enumerate(row)]
                if all(b - a >= gap - 1e-9 for a, b, gap in zip(moved, moved[1:], room, strict=False)):
                    assert sum((r - w) ** 2 for r, w in zip(moved, wanted, strict=True)) >= error - 1e-9


def test_a_tree_is_drawn_without_crossings():
    parent, child = [(i - 1) // 3 for i in range(1, 40)], list(range(1, 40))
    shuffled = np.random.default_rng(0).permutation(40)
    pairs = [(int(shuffled[a]), int(shuffled[b])) for a, b in zip(parent, child, strict=True)]
    graph = ShadowPageGraph.from_edges([a for a, _ in pairs], [b for _, b in pairs], num_pages=40)
    layout = _layout.arrange(list(range(40)), graph.levels().tolist(), pairs)
    for a, b in pairs:
        for c, d in pairs:
            if graph.levels()[a] == graph.levels()[c] and layout.row[a] < layout.row[c]:
                assert layout.row[b] < layout.row[d]


def test_what_is_left_out_is_said():
    svg = ShadowPageGraph.from_edges([0], [1], num_pages=4096)._repr_svg_()
    assert "Left out: 4,094 pages with neither edge nor name." in texts(svg)
    assert len(boxes(svg)) == 2


def test_a_large_graph_is_a_count_by_level():
    graph = ShadowPageGraph.from_edges(np.zeros(70, int), np.arange(1, 71), num_pages=80)
    svg = graph._repr_svg_()
    assert titles(svg) == ["level 0: 1 page", "level 1: 70 pages"]
    assert any("71 pages couldn't be read (at most 60, with 180 edges)" in text for text in texts(svg))
    assert "Left out: 9 pages with neither edge nor name." in texts(svg)
    deep = ShadowPageGraph.from_edges(np.arange(999), np.arange(1, 1000), num_pages=1000)._repr_svg_()
    assert titles(deep)[0] == "levels 0 to 24: 25 pages"
    assert len(titles(deep)) == 40
    dense = ShadowPageGraph.from_edges(*np.triu_indices(30, 1), num_pages=30)._repr_svg_()
    assert len(titles(dense)) == 30
    assert len(dense) < 10_000


def test_names_that_would_break_the_picture_are_escaped():
    names = {'<b>&"\x00\x1b[31m': 0, "x" * 99: 1, "面" * 9: 2}
    svg = to_svg(ShadowPageGraph.from_edges([0], [1], num_pages=3), names)
    assert '<b>&"\\x00\\x1b[31m' in texts(svg)
    assert "x" * 23 + "…" in texts(svg)
    assert f"page 1: {'x' * 99}" in titles(svg)


def test_graphs_show_themselves_in_a_notebook():
    builder = GraphBuilder("tea", "total")
    builder["tea"] >> builder["total"]
    for shown in (builder, builder.build()):
        assert {"tea", "total"} <= {*texts(shown._repr_svg_())}
    assert {"0", "1"} <= {*texts(builder.build().graph._repr_svg_())}
    assert jax.tree.map(jnp.asarray, builder.build().graph)._repr_svg_() is None


def test_dot_and_mermaid_have_every_kind_weight_and_name():
    graph = ShadowPageGraph.from_edges(
        [0, 0, 1, 1], [1, 2, 2, 3], kind=list(EdgeKind), weight=[0.5, 1, np.inf, -2], num_pages=6
    )
    names = {'a "b" \\ <i> `c` #;': 0, "two\nlines": 1, 7: 5}
    dot, mermaid = to_dot(graph, names), to_mermaid(graph, names)
    assert '  p0 [label="a \\"b\\" \\\\ <i> `c` #;"]' in dot.splitlines()
    assert '  p1 [label="two\\\\nlines"]' in dot.splitlines()
    assert '  p5 [label="7"]' in dot.splitlines()
    assert "// left out: 1 page with neither edge nor name" in dot
    assert re.findall(r"p(\d) -> p(\d) \[style=(\w+) label=\"(.*)\"\]", dot) == [
        ("0", "1", "solid", "0.5"),
        ("0", "2", "dashed", "1"),
        ("1", "2", "dotted", "inf"),
        ("1", "3", "bold", "-2"),
    ]
    assert '  p0["a #34;b#34; \\ #60;i#62; #96;c#96; #35;#59;"]' in mermaid.splitlines()
    assert [line for line in mermaid.splitlines() if "|" in line] == [
        '  p0 -->|"0.5"| p1',
        '  p0 -.->|"1"| p2',
        '  p1 --o|"inf"| p2',
        '  p1 ==>|"-2"| p3',
    ]
    bare = to_mermaid(ShadowPageGraph.from_edges([0], [1], num_pages=2))
    assert bare.splitlines() == ["flowchart LR", '  p0["0"]', '  p1["1"]', "  p0 --> p1"]
