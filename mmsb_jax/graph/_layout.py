"""Where pages stand in a picture: columns by level, rows so that edges are short and cross little.

The steps of Sugiyama, Tagawa and Toda (Methods for visual understanding of hierarchical system structures, IEEE
Transactions on Systems, Man, and Cybernetics 11(2), 1981): an edge that passes several levels gets a bend in each; the
order within a column follows the mean place of the neighbours, column by column, forth and back; rows then come as near
to their neighbours as the room between them allows, which for one column is a regression with bounds.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

_SWEEPS = 12
_BEND = 0.45  # height of a bend, in rows


class Layout(NamedTuple):
    """Places of pages and of the bends of edges; a row is as high as a page needs."""

    row: dict[int, float]
    """By page."""
    ways: list[list[float]]
    """By edge: the rows at which it passes the columns from its parent's to its child's."""
    height: float
    """Rows, from 0."""


def arrange(pages: Sequence[int], level: Sequence[int], edges: Sequence[tuple[int, int]]) -> Layout:
    """Rows for `pages`, which stand in the columns `level`, and for the bends of `edges` (parent, child)."""
    column = dict(zip(pages, level, strict=True))
    node_of = {page: i for i, page in enumerate(pages)}
    columns: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for page in pages:
        columns[column[page]].append(node_of[page])
    height = [1.0] * len(pages)
    ways = []
    for parent, child in edges:
        way = [node_of[parent]]
        for between in range(column[parent] + 1, column[child]):
            columns[between].append(len(height))
            way.append(len(height))
            height.append(_BEND)
        ways.append([*way, node_of[child]])
    before: list[list[int]] = [[] for _ in height]
    after: list[list[int]] = [[] for _ in height]
    for way in ways:
        for one, other in pairwise(way):
            after[one].append(other)
            before[other].append(one)
    row = _rows(_ordered(columns, before, after), before, after, height)
    top = min((row[node] - height[node] / 2 for node in range(len(row))), default=0.0)
    bottom = max((row[node] + height[node] / 2 for node in range(len(row))), default=0.0)
    places = {page: row[node_of[page]] - top for page in pages}
    return Layout(places, [[row[node] - top for node in way] for way in ways], bottom - top)


def _ordered(columns: list[list[int]], before: list[list[int]], after: list[list[int]]) -> list[list[int]]:
    """The nodes of each column from top to bottom: the best order of several sweeps."""
    place: dict[int, float] = {}
    best, fewest = columns, _crossings(columns, after)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        near = before if forth else after
        columns = [list(nodes) for nodes in columns]
        for nodes in columns:
            place.update({node: i - (len(nodes) - 1) / 2 for i, node in enumerate(nodes)})
        for nodes in columns if forth else columns[::-1]:
            nodes.sort(key=lambda node: _mean([place[other] for other in near[node]], place[node]))
            place.update({node: i - (len(nodes) - 1) / 2 for i, node in enumerate(nodes)})
        crossings = _crossings(columns, after)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(columns: list[list[int]], after: list[list[int]]) -> int:
    total = 0
    for nodes, following in pairwise(columns):
        place = {node: i for i, node in enumerate(following)}
        ends = np.array([end for node in nodes for end in sorted(place[other] for other in after[node])], np.int32)
        total += int(np.triu(ends[:, None] > ends[None, :], 1).sum())
    return total


def _rows(
    columns: list[list[int]], before: list[list[int]], after: list[list[int]], height: list[float]
) -> list[float]:
    row = [0.0] * len(height)
    for nodes in columns:
        _settle(nodes, [0.0] * len(nodes), row, height)
    for sweep in range(2 * _SWEEPS):
        forth = sweep % 2 == 0
        for nodes in columns if forth else columns[::-1]:
            # Both sides count, the one just settled twice.
            wanted = [
                _mean([row[other] for other in [*before[node], *after[node], *(before if forth else after)[node]]], 0.0)
                for node in nodes
            ]
            _settle(nodes, wanted, row, height)
    return row


def _settle(nodes: list[int], wanted: list[float], row: list[float], height: list[float]) -> None:
    """Rows in this order, without overlap, whose squared distances to those wanted are least.

    With the room that the nodes above take subtracted, that is isotonic regression, solved by pooling adjacent
    violators (Barlow and others, Statistical Inference under Order Restrictions, 1972).
    """
    room, offsets = 0.0, []
    for i, node in enumerate(nodes):
        room += (height[node] + height[nodes[i - 1]]) / 2 if i else 0.0
        offsets.append(room)
    pools: list[list[float]] = []  # mean, size
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append([value - offset, 1.0])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, size = pools.pop()
            both = pools[-1][1] + size
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * size) / both, both]
    settled = [mean for mean, size in pools for _ in range(int(size))]
    for node, base, offset in zip(nodes, settled, offsets, strict=True):
        row[node] = base + offset
