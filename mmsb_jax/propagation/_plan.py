"""`RuleGraph`: a graph whose pages have rules, laid out for waves. NumPy, on the host, once per structure.

Pages with a rule are grouped into *stages*, by level and rule. A wave takes them up in one of two ways:

    queue    one bucket a stage, filled as parents change, emptied up to `lanes` pages at a time
    sweep    all pages of a stage, in windows of `width`, those with most parents first:

             stage 0                         stage 1
             |-- window 0 --|-- window 1 -- |-- window 2 --| …      sweep_page, window_start

All arrays number pages by id, or, when laid out for a page table, by the slots that this gives them: then what is near
in memory is near in every array, and a wave that goes through them in order goes through memory in order.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Int32

from .._device import on_device
from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance, whole_number
from ..graph import EdgeKind, ShadowPageGraph
from ..kernels import take_rows
from ..physical import page_words_of
from ._recipe import Recipe, check_recipe
from ._rule import Rule

__all__ = ["RuleGraph"]

_WIDTHS = tuple(1 << power for power in range(3, 13))
_WINDOW_COST = 256  # What a window costs beside its lanes, in lanes.
_FEW_CHILDREN = 4
_WIDE_PARENTS = 16  # Beyond so many, fewer pages are folded side by side.


class RuleGraph(eqx.Module):
    """A graph whose pages know how to recompute themselves, laid out for `propagate`. Made on the host, once.

    Pages with a rule are grouped into *stages*, by level and rule: a page's parents always lie in earlier stages, and
    the pages of one stage can be recomputed side by side.

    ```python
    >>> import mmsb_jax as mmsb
    >>> term = mmsb.Term(mmsb.semiring.plus_times, read=lambda parent: parent[0])
    >>> total = mmsb.Rule("total", pages=[2], terms=[term], update=lambda own, x: own.at[0].set(x))
    >>> graph = mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3), [total])
    >>> graph
    RuleGraph(3 pages, 1 rule, 1 stage)

    ```
    """

    # How pages are numbered here; None: by id.
    page: Int32[Array, " pages"] | None
    """The id of each number."""
    number: Int32[Array, " pages"] | None
    """The number of each id: the page table that the graph was laid out for."""

    # Edges that lead to a page with a rule.
    in_start: Int32[Array, " pages_and_one"]
    """Where the incoming edges of a page begin in `in_parent` (edges by child, then parent)."""
    in_parent: Int32[Array, " edges"]
    in_weight: Float32[Array, " edges"] | None
    in_edge: Int32[Array, " edges"]
    """Which edge of the `ShadowPageGraph` it is."""
    out_start: Int32[Array, " pages_and_one"]
    """Where the outgoing edges of a page begin in `out_child`."""
    out_child: Int32[Array, " edges"]

    # Stages.
    stage_of_page: Int32[Array, " pages"]
    """The stage that computes a page; the sentinel `stages` for pages without a rule."""
    stage_start: Int32[Array, " stages_and_one"]
    """Where a stage's part of the queue begins, and of `sweep_page`."""
    stage_rule: Int32[Array, " stages"]

    # The sweep.
    sweep_page: Int32[Array, " ruled_and_width"]
    """Pages by stage, within a stage by falling number of parents; padded for the last window."""
    sweep_id: Int32[Array, " ruled_and_width"] | None
    """The same by id; None: as they are."""
    window_start: Int32[Array, " windows_and_one"]
    """Where a window begins in `sweep_page`; it ends where the next one begins."""
    window_stage: Int32[Array, " windows"]
    stage_window: Int32[Array, " stages_and_one"]
    """The first window of a stage."""
    sweep_above: Int32[Array, ""]
    """The queue's capacity: once a wave has more pages than this, it sweeps the stages that are left."""

    recipes: tuple[Recipe, ...]
    lanes: int = eqx.field(static=True)
    """The most pages that are taken from the queue side by side."""
    width: int = eqx.field(static=True)
    """The most pages that are swept side by side."""
    num_edges: int | None = eqx.field(static=True)
    """Edges of the `ShadowPageGraph`, those that lead to no rule included; None after `rounded`."""
    max_children: int = eqx.field(static=True)
    """How many children of a page are queued at a time: as many as it has at most, but few."""
    whole_weights: bool = eqx.field(static=True)
    """Whether every weight is a whole number that float32 holds exactly: only then may messages be integers."""

    @classmethod
    def of(
        cls,
        graph: ShadowPageGraph,
        rules: Sequence[Rule],
        *,
        lanes: int = 32,
        width: int | Any | None = None,
        sweep_above: int | Any | None = None,
        page_bytes: int | Any | None = None,
        slot_of_page: ArrayLike | Any | None = None,
    ) -> "RuleGraph":
        """Lay out a graph and its rules.

        **Arguments:**

        - `lanes`: pages that are taken from the queue side by side.
        - `width`: pages that are swept side by side; None: what suits the sizes of the stages.
        - `sweep_above`: the queue's capacity. A wave's cost follows the affected pages up to so many, and is that of
          a sweep over all pages beyond; the result is the same. By default a sixteenth of the pages with a rule.
        - `page_bytes`: size of the pages, to look at the rules' functions now; otherwise the first wave does.
        - `slot_of_page`: int32[pages], the page table of the states that it is for: waves then go through memory in
          order. With any other state the result is the same, only slower.

        **Raises:** `InvalidArgumentError` when two rules compute one page, when a rule names a page that the graph
        hasn't, when a page has more parents than its rule has room for, when a weighted term meets a graph without
        weights, `lanes` isn't positive, or `slot_of_page` isn't a permutation of so many slots; `InvalidTypeError` when
        a rule's functions don't return what they must.
        """
        require_instance(graph, ShadowPageGraph, "ShadowPageGraph.from_edges(…) makes one")
        for rule in rules:
            require_instance(rule, Rule, "Rule(name, pages=…, terms=…, update=…) makes one")
        if lanes < 1 or (width is not None and width < 1):
            raise InvalidArgumentError(f"got lanes={lanes}, width={width}; recompute at least one page at a time")
        rule_of_page = rule_numbers(graph, rules)
        used = np.flatnonzero((graph.kind == EdgeKind.DATA) & (rule_of_page[graph.child] >= 0)).astype(np.int32)
        parent, child = graph.parent[used], graph.child[used]  # sorted by child, then parent
        weight = None if graph.weight is None else graph.weight[used]
        if weight is None and any(term.weighted for rule in rules for term in rule.terms):
            raise InvalidArgumentError("a term is weighted, but the graph's edges have no weights; pass weight=…")
        parents_of = np.bincount(child, minlength=graph.num_pages)
        recipes = tuple(_recipe(rule, parents_of, lanes) for rule in rules)
        for recipe in recipes if page_bytes is not None else ():
            check_recipe(recipe, page_words_of(page_bytes))
        number, page = _numbers(slot_of_page, graph.num_pages)
        if number is not None:
            by_child = np.argsort(number[child], kind="stable")  # within a child still by the parent's id
            used, parent, child = used[by_child], number[parent[by_child]], number[child[by_child]]
            weight = None if weight is None else weight[by_child]
        in_degree = np.bincount(child, minlength=graph.num_pages)
        out_degree = np.bincount(parent, minlength=graph.num_pages)
        levels = graph.levels()
        stages = _stages(*((levels, rule_of_page) if page is None else (levels[page], rule_of_page[page])))
        ruled = int((rule_of_page >= 0).sum())
        return cls(
            page=None if page is None else on_device(page),
            number=None if number is None else on_device(number),
            in_start=_starts(in_degree),
            in_parent=_never_empty(parent),
            in_weight=None if weight is None else _never_empty(weight),
            in_edge=_never_empty(used),
            out_start=_starts(out_degree),
            out_child=_never_empty(child[np.argsort(parent, kind="stable")]),
            **stages,
            **_sweep(stages, in_degree, ruled, width, page),
            sweep_above=on_device(np.asarray(_capacity(sweep_above, ruled, lanes)), np.int32),
            recipes=recipes,
            lanes=lanes,
            num_edges=graph.num_edges,
            max_children=min(int(out_degree.max(initial=0)), _FEW_CHILDREN),
            whole_weights=weight is None or bool(np.all((weight == np.floor(weight)) & (np.abs(weight) <= 2**24))),
        )

    def rounded(self) -> "RuleGraph":
        """The same, with all sizes rounded up: a graph of about this size then needs no other compiled wave.

        For graphs that change between waves. What is added is never reached. Doesn't go with other weights
        (`values_after(…, weight=…)`).

        ```python
        >>> import mmsb_jax as mmsb, jax
        >>> copy = mmsb.Rule.passthrough("copy", pages=[1, 2])
        >>> plans = [
        ...     mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0] * n, [1, 2][:n], num_pages=3), [copy]).rounded()
        ...     for n in (1, 2)
        ... ]
        >>> jax.tree.structure(plans[0]) == jax.tree.structure(plans[1])
        True

        ```
        """
        return with_room(
            self,
            edges=_rounded(len(self.in_parent)),
            stages=_rounded(self.num_stages),
            windows=_rounded(self.num_windows),
            swept=_rounded(len(self.sweep_page)),
            recipes=tuple(recipe if recipe.gathers else _rounded_recipe(recipe) for recipe in self.recipes),
        )

    def __repr__(self) -> str:
        rules, stages = len(self.recipes), self.num_stages
        plural = ("s" if rules != 1 else "", "s" if stages != 1 else "")
        return f"RuleGraph({self.num_pages} pages, {rules} rule{plural[0]}, {stages} stage{plural[1]})"

    def ids(self, number: Int32[Array, " n"]) -> Int32[Array, " n"]:
        """The pages that some numbers stand for."""
        return number if self.page is None else take_rows(self.page, number)

    @property
    def num_pages(self) -> int:
        """How many page ids the graph has."""
        return self.stage_of_page.shape[-1]

    @property
    def num_stages(self) -> int:
        """How many stages a wave can pass through, at most."""
        return self.stage_rule.shape[-1]

    @property
    def num_windows(self) -> int:
        """How many windows a sweep over everything has, at most."""
        return self.window_stage.shape[-1]


def _numbers(slot_of_page: Any, pages: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """The number of each id and the id of each number, or None where both are the same."""
    if slot_of_page is None:
        return None, None
    slots = np.asarray(slot_of_page)
    every = np.arange(pages, dtype=np.int32)
    if slots.shape != (pages,) or slots.dtype.kind not in "iu" or not np.array_equal(np.sort(slots), every):
        raise InvalidArgumentError(
            f"got slot_of_page of dtype {slots.dtype} and shape {slots.shape}; pass a permutation of the slots 0 to "
            f"{pages - 1}, such as state.slot_of_page"
        )
    if np.array_equal(slots, every):
        return None, None
    page = np.empty(pages, np.int32)
    page[slots] = every
    return slots.astype(np.int32), page


def rule_numbers(graph: ShadowPageGraph, rules: Sequence[Rule]) -> Int32[np.ndarray, " pages"]:
    """Which of the rules computes each page; −1: none. Raises as `RuleGraph.of` does."""
    rule_of_page = np.full(graph.num_pages, -1, np.int32)
    for number, rule in enumerate(rules):
        outside = rule.pages[(rule.pages < 0) | (rule.pages >= graph.num_pages)]
        if outside.size:
            raise InvalidArgumentError(
                f"rule {rule.name!r} names page {outside[0]}, but the graph has pages 0 to {graph.num_pages - 1}"
            )
        taken = rule.pages[rule_of_page[rule.pages] >= 0]
        if taken.size:
            other = rules[rule_of_page[taken[0]]].name
            raise InvalidArgumentError(
                f"page {taken[0]} has two rules, {other!r} and {rule.name!r}; give one rule both terms"
            )
        rule_of_page[rule.pages] = number
    return rule_of_page


def _recipe(rule: Rule, in_degree: np.ndarray, lanes: int) -> Recipe:
    most = int(in_degree[rule.pages].max())
    batch = _side_by_side(most)
    if rule.parents is not None:
        # The same few side by side in every window: the compiler has no occasion to order a sum in two ways.
        batch = max(1, min(lanes, 32))
        room = most if rule.parents.most is None else rule.parents.most
        if most > room:
            page = int(rule.pages[np.argmax(in_degree[rule.pages])])
            raise InvalidArgumentError(
                f"page {page} has {most} parents, but rule {rule.name!r} has room for {room}; pass more max_parents, "
                "or remove dependencies"
            )
        most = room
    gathers = rule.parents is not None
    return Recipe(rule.name, rule.terms, gathers, rule.update, rule.static, rule.dtype, most, batch)


def _side_by_side(most: int) -> int:
    """How many pages with so many parents are folded at once."""
    return max(1, _WIDTHS[-1] * _WIDE_PARENTS // max(most, _WIDE_PARENTS))


def with_room(
    plan: RuleGraph, *, edges: int, stages: int, windows: int, swept: int, recipes: tuple[Recipe, ...]
) -> RuleGraph:
    """The same plan in arrays of these sizes, with stages and windows behind the others that hold no page."""
    of_page = np.asarray(plan.stage_of_page)
    return dataclasses.replace(
        plan,
        in_parent=_longer(plan.in_parent, edges),
        in_weight=None if plan.in_weight is None else _longer(plan.in_weight, edges),
        in_edge=_longer(plan.in_edge, edges),
        out_child=_longer(plan.out_child, edges),
        stage_of_page=on_device(np.where(of_page == plan.num_stages, stages, of_page), np.int32),
        stage_start=_longer(plan.stage_start, stages + 1, "edge"),
        stage_rule=_longer(plan.stage_rule, stages),
        sweep_page=_longer(plan.sweep_page, swept),
        sweep_id=None if plan.sweep_id is None else _longer(plan.sweep_id, swept),
        window_start=_longer(plan.window_start, windows + 1, "edge"),
        window_stage=_longer(plan.window_stage, windows),
        stage_window=_longer(plan.stage_window, stages + 1, "edge"),
        recipes=recipes,
        num_edges=None,
        max_children=_FEW_CHILDREN,
    )


def _rounded_recipe(recipe: Recipe) -> Recipe:
    most = _rounded(recipe.max_parents)
    return dataclasses.replace(recipe, max_parents=most, batch=_side_by_side(most))


def _rounded(size: int) -> int:
    """At least 16, a power of two up to 1,024, and from there on a multiple of an eighth of one."""
    power = 1 << max(4, (max(size, 1) - 1).bit_length())
    step = power if power <= 1024 else power // 16
    return max(1, -(-size // step)) * step


def _longer(array: Array, length: int, mode: str = "constant") -> Array:
    return on_device(np.pad(np.asarray(array), (0, length - len(array)), mode))  # type: ignore[call-overload]


def _stages(levels: Int32[np.ndarray, " pages"], rule_of_page: Int32[np.ndarray, " pages"]) -> dict[str, Any]:
    """Group pages by (level, rule), in that order."""
    ruled = rule_of_page >= 0
    rules = int(rule_of_page.max(initial=0)) + 1
    keys, stage, sizes = np.unique(
        levels[ruled].astype(np.int64) * rules + rule_of_page[ruled], return_inverse=True, return_counts=True
    )
    stage_of_page = np.full(len(levels), len(keys), np.int32)
    stage_of_page[ruled] = stage
    return {
        "stage_of_page": on_device(stage_of_page),
        "stage_start": _starts(sizes),
        "stage_rule": on_device(keys % rules, np.int32),
    }


def _sweep(
    stages: dict[str, Any], in_degree: np.ndarray, ruled: int, width: int | None, page: np.ndarray | None
) -> dict[str, Any]:
    """Cut the stages into windows, by default of the width that makes a sweep cheapest."""
    stage_of_page, start = np.asarray(stages["stage_of_page"]), np.asarray(stages["stage_start"])
    order = np.lexsort([-in_degree, stage_of_page])[:ruled].astype(np.int32)
    sizes = np.diff(start)
    width = width or min(_WIDTHS, key=lambda lanes: int((-(-sizes // lanes)).sum()) * (lanes + _WINDOW_COST))
    windows = -(-sizes // width)
    stage = np.repeat(np.arange(len(sizes)), windows)
    first = np.cumsum(windows) - windows
    window_start = start[stage] + width * (np.arange(len(stage)) - first[stage])
    return {
        "sweep_page": on_device(np.concatenate([order, np.zeros(width, np.int32)])),
        "sweep_id": None if page is None else on_device(np.concatenate([page[order], np.zeros(width, np.int32)])),
        "window_start": on_device(np.concatenate([window_start, [ruled]]), np.int32),
        "window_stage": on_device(stage, np.int32),
        "stage_window": _starts(windows),
        "width": width,
    }


def _capacity(sweep_above: Any, ruled: int, lanes: int) -> int:
    if sweep_above is None:
        return max(lanes, ruled // 16)
    number = whole_number(sweep_above)
    if number is None or number < 0:
        raise InvalidTypeError(f"got sweep_above={sweep_above!r}; pass a number of pages, 0 or more")
    return min(number, 2**31 - 1)


def _starts(sizes: np.ndarray) -> Int32[Array, " n_and_one"]:
    return on_device(np.concatenate([[0], np.cumsum(sizes)]), np.int32)


def _never_empty(values: np.ndarray) -> Array:
    """Masked lanes read element 0, so there has to be one."""
    return on_device(values if len(values) else np.zeros(1, values.dtype))
