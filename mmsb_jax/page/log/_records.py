"""The other bodies of the log as records: pages made and deleted, edges, names, the header; and the schema of each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int8, Int32, UInt8

from ..._errors import InvalidArgumentError
from ._changes import changes_schema, require
from ._codec import CODED_SCHEMA
from ._frame import FrameKind
from ._layout_record import LAYOUT_SCHEMA

__all__ = [
    "ADD",
    "REMOVE",
    "EdgeRecords",
    "PageRecord",
    "decode_edges",
    "decode_header",
    "decode_names",
    "decode_pages",
    "encode_edges",
    "encode_header",
    "encode_names",
    "encode_pages",
    "fault_in_edges",
    "fault_in_pages",
    "schema_of",
]

ADD, REMOVE, ALTER = 1, 2, 3
_OPS = {"create": ADD, "delete": REMOVE, "alter": ALTER}
_OP_NAMES = {code: name for name, code in _OPS.items()}


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


_PAGES = _schema(
    op=pa.uint8(),
    pages=pa.list_(pa.field("item", pa.int32(), nullable=False)),
    size=pa.uint64(),
    name=pa.string(),
    location=pa.string(),
    metadata=pa.string(),
).set(3, pa.field("name", pa.string()))
_EDGES = _schema(op=pa.uint8(), parent=pa.int32(), child=pa.int32(), kind=pa.int8(), weight=pa.float32()).set(
    4, pa.field("weight", pa.float32())
)
_NAMES = _schema(id=pa.int32(), name=pa.string())
_HEADER = _schema(key=pa.string(), value=pa.string())
_SCHEMAS = {
    FrameKind.HEADER: _HEADER,
    FrameKind.NAMES: _NAMES,
    FrameKind.PAGES: _PAGES,
    FrameKind.EDGES: _EDGES,
    FrameKind.LAYOUT: LAYOUT_SCHEMA,
}


def schema_of(
    kind: int, page_words: int, *, masked: bool = True, ticks: bool = False, coded: bool = False
) -> pa.Schema:
    """Return the Arrow schema of a frame's record batch; frames themselves don't repeat it.

    Args:
        kind: a `FrameKind`.
        page_words: 32-bit words per page, from the run's header frame.
        masked: whether the frame has the MASKED flag; only CHANGES frames look at it.
        ticks: likewise for the flag TICKS.
        coded: likewise for the flag CODED; then the others make no difference.

    >>> schema_of(FrameKind.NAMES, 16).names
    ['id', 'name']
    """
    if kind == FrameKind.CHANGES:
        return CODED_SCHEMA if coded else changes_schema(page_words, masked, ticks)
    return _SCHEMAS[FrameKind(kind)]


@dataclass(frozen=True, eq=False)
class PageRecord:
    """One allocation made (`op="create"`) or given back (`op="delete"`): `size` bytes on the listed pages.

    With `op="alter"` one that was made before, told by the first of its pages, is from now on as the record says. That
    changes no contents; pages that it loses are given back by a record of the same frame.

    >>> PageRecord("create", np.array([3, 4], np.int32), 100, "weather").location
    'device'
    """

    op: str
    pages: Int32[np.ndarray, "n"]
    size: int = 0
    name: str | None = None
    location: str = "device"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require("pages", self.pages, np.dtype(np.int32), 1)


_EDGE_DTYPES = {
    name: np.dtype(kind)
    for name, kind in {"op": "u1", "parent": "i4", "child": "i4", "kind": "i1", "weight": "f4", "weighted": "?"}.items()
}


@dataclass(frozen=True, eq=False)
class EdgeRecords:
    """Edges added (`op` 1) or removed (`op` 2), one per row. `weight` is 0 where `weighted` is False."""

    op: UInt8[np.ndarray, "n"]
    parent: Int32[np.ndarray, "n"]
    child: Int32[np.ndarray, "n"]
    kind: Int8[np.ndarray, "n"]
    weight: Float32[np.ndarray, "n"]
    weighted: Bool[np.ndarray, "n"]

    def __post_init__(self) -> None:
        for name, dtype in _EDGE_DTYPES.items():
            require(name, getattr(self, name), dtype, 1)

    def __len__(self) -> int:
        return len(self.op)

    @classmethod
    def of(
        cls,
        op: int,
        parent: Int32[np.ndarray, "n"],
        child: Int32[np.ndarray, "n"],
        kind: Int8[np.ndarray, "n"] | int = 0,
        weight: Float32[np.ndarray, "n"] | None = None,
    ) -> "EdgeRecords":
        """Return records of edges that are all added (`op=1`) or all removed (`op=2`).

        >>> EdgeRecords.of(ADD, np.array([0], np.int32), np.array([1], np.int32)).weighted
        array([False])
        """
        rows = len(parent)
        return cls(
            np.full(rows, op, np.uint8),
            parent,
            child,
            np.full(rows, kind, np.int8) if isinstance(kind, int) else kind,
            np.zeros(rows, np.float32) if weight is None else weight,
            np.full(rows, weight is not None),
        )


def _outside(ids: Int32[np.ndarray, "n"], capacity: int) -> bool:
    # As unsigned, a negative id is a huge one: one comparison checks both ends.
    return bool(len(ids)) and int(ids.view(np.uint32).max()) >= capacity


def fault_in_pages(records: Sequence[PageRecord], capacity: int) -> str | None:
    """Return why these records can't belong to such a run, or None."""
    for row, record in enumerate(records):
        if record.op not in _OPS:
            return f"record {row} has op {record.op!r}; it is one of {', '.join(map(repr, _OPS))}"
        if _outside(record.pages, capacity):
            return f"record {row} names a page outside this run's pages 0 to {capacity - 1}"
        if not 0 <= record.size < 2**64:
            return f"record {row} has size {record.size}; it is a number of bytes, 0 or more"
    return None


def fault_in_edges(edges: EdgeRecords, capacity: int) -> str | None:
    """Return why these edges can't belong to such a run, or None."""
    columns = (edges.op, edges.parent, edges.child, edges.kind, edges.weight, edges.weighted)
    if len({len(column) for column in columns}) != 1:
        return f"the columns have {', '.join(str(len(column)) for column in columns)} rows; they need equally many"
    if len(edges) and not np.isin(edges.op, (ADD, REMOVE)).all():
        return f"an op is neither {ADD} (add) nor {REMOVE} (remove)"
    if _outside(edges.parent, capacity) or _outside(edges.child, capacity):
        return f"an edge names a page outside this run's pages 0 to {capacity - 1}"
    return None


def encode_pages(records: Sequence[PageRecord]) -> pa.RecordBatch:
    """Return the record batch of a PAGES frame.

    Raises:
        InvalidArgumentError: a name is no UTF-8 text, or metadata can't be written as JSON.
    """
    lengths = np.array([len(record.pages) for record in records], np.int32)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    pages = np.concatenate([record.pages for record in records] or [np.empty(0, np.int32)])
    try:
        metadata = [json.dumps(dict(record.metadata), allow_nan=False) for record in records]
        columns = [
            pa.array([_OPS[record.op] for record in records], pa.uint8()),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(pages), type=_PAGES.field(1).type),
            pa.array([record.size for record in records], pa.uint64()),
            pa.array([record.name for record in records], pa.string()),
            pa.array([record.location for record in records], pa.string()),
            pa.array(metadata, pa.string()),
        ]
    except (TypeError, ValueError) as why:
        raise InvalidArgumentError(f"page records: {why}; names are text, and metadata is what JSON can hold") from why
    return pa.RecordBatch.from_arrays(columns, schema=_PAGES)


def decode_pages(batch: pa.RecordBatch) -> tuple[PageRecord, ...]:
    """Return the records of a PAGES frame. Raises `ValueError` where they make no sense."""
    _validate(batch)
    lists = batch.column(1)
    offsets, pages = lists.offsets.to_numpy(), lists.values.to_numpy()
    rows = zip(*(batch.column(i).to_pylist() for i in (0, 2, 3, 4, 5)), strict=True)
    return tuple(
        PageRecord(_op_name(op), pages[offsets[i] : offsets[i + 1]], size, name, location, _metadata(text))
        for i, (op, size, name, location, text) in enumerate(rows)
    )


def _op_name(code: int) -> str:
    if code not in _OP_NAMES:
        raise ValueError(f"page op {code} is none of {', '.join(f'{n} ({op})' for op, n in _OPS.items())}")
    return _OP_NAMES[code]


def _metadata(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError as why:
        raise ValueError("metadata is nested too deeply") from why
    if not isinstance(value, dict):
        raise ValueError(f"metadata is {type(value).__name__}, not an object")
    return value


def encode_edges(edges: EdgeRecords) -> pa.RecordBatch:
    """Return the record batch of an EDGES frame."""
    weight = pa.array(edges.weight, pa.float32(), mask=~edges.weighted)
    columns = [pa.array(column) for column in (edges.op, edges.parent, edges.child, edges.kind)]
    return pa.RecordBatch.from_arrays([*columns, weight], schema=_EDGES)


def decode_edges(batch: pa.RecordBatch) -> EdgeRecords:
    """Return the records of an EDGES frame. Raises `ValueError` where they make no sense."""
    _validate(batch)
    op, parent, child, kind, weight = batch.columns
    weighted = weight.is_valid().to_numpy(zero_copy_only=False)
    weights = weight.fill_null(0.0).to_numpy()
    return EdgeRecords(op.to_numpy(), parent.to_numpy(), child.to_numpy(), kind.to_numpy(), weights, weighted)


def encode_names(first_id: int, names: Sequence[str]) -> pa.RecordBatch:
    """Return the record batch of a NAMES frame: new names with consecutive ids."""
    ids = pa.array(range(first_id, first_id + len(names)), pa.int32())
    return pa.RecordBatch.from_arrays([ids, pa.array(names, pa.string())], schema=_NAMES)


def decode_names(batch: pa.RecordBatch) -> list[tuple[int, str]]:
    """Return `(id, name)` pairs of a NAMES frame. Raises `ValueError` where they make no sense."""
    _validate(batch)
    return list(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))


def encode_header(values: Mapping[str, str]) -> pa.RecordBatch:
    """Return the record batch of a HEADER frame."""
    columns = [pa.array(list(values), pa.string()), pa.array(list(values.values()), pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=_HEADER)


def decode_header(batch: pa.RecordBatch) -> dict[str, str]:
    """Return the key-value pairs of a HEADER frame. Raises `ValueError` where they make no sense."""
    _validate(batch)
    return dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))


def _validate(batch: pa.RecordBatch) -> None:
    batch.validate(full=True)  # offsets, lengths and UTF-8; pa.ArrowInvalid is a ValueError
    for field_, column in zip(batch.schema, batch.columns, strict=True):
        if not field_.nullable and column.null_count:
            raise ValueError(f"column {field_.name} holds nulls")
