"""The catalogue of a checkpoint: names, pages, edges and slots, as the frames of a little log."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from jaxtyping import Int32

from ..._errors import CorruptCheckpointError, CorruptLogError
from ..log._body import Frame
from ..log._frame import FORMAT_VERSION, HEADER_BYTES, FrameHeader, FrameKind, pack_header, parse_header
from ..log._identity import RunIdentity
from ..log._layout_record import LayoutRecord, encode_layout
from ..log._records import EdgeRecords, PageRecord, encode_edges, encode_names, encode_pages

__all__ = ["CheckpointCatalog", "pack_catalog", "parse_catalog", "parse_slots"]

_KINDS = (FrameKind.NAMES, FrameKind.PAGES, FrameKind.EDGES, FrameKind.LAYOUT)


class CheckpointCatalog(NamedTuple):
    """What the log up to some frame says about its pages, all in the order of the log.

    >>> from mmsb_jax.page import EdgeRecords, PageRecord
    >>> import numpy as np
    >>> none = np.zeros(0, np.int32)
    >>> CheckpointCatalog(("", "api"), (), EdgeRecords.of(1, none, none)).names[1]
    'api'
    """

    names: tuple[str, ...]
    records: tuple[PageRecord, ...]
    edges: EdgeRecords
    slot_of_page: Int32[np.ndarray, " capacity"] | None = None
    """None: each page in the slot of its id."""


def pack_catalog(catalog: CheckpointCatalog, run: RunIdentity) -> bytes:
    """Return a NAMES, a PAGES and an EDGES frame, and a LAYOUT frame where pages have moved.

    Equal catalogues give equal bytes, so they can be shared.

    Raises:
        InvalidArgumentError: a name is no UTF-8 text, or metadata can't be written as JSON.
    """
    bodies = [
        (FrameKind.NAMES, encode_names(0, catalog.names)),
        (FrameKind.PAGES, encode_pages(catalog.records)),
        (FrameKind.EDGES, encode_edges(catalog.edges)),
    ]
    if catalog.slot_of_page is not None:
        moved = LayoutRecord.between(np.arange(run.capacity, dtype=np.int32), catalog.slot_of_page)
        bodies.append((FrameKind.LAYOUT, encode_layout(moved)))
    return b"".join(_frame(number, kind, batch, run.salt) for number, (kind, batch) in enumerate(bodies))


def _frame(number: int, kind: FrameKind, batch: pa.RecordBatch, salt: int) -> bytes:
    body = batch.serialize().to_pybytes()
    fields = (0, number, 0, len(body), 0, 0, 0, 0, batch.num_rows, salt, crc32c(body))
    return pack_header(FrameHeader(FORMAT_VERSION, int(kind), *fields)) + body


def parse_catalog(file: str, data: memoryview, run: RunIdentity, *, laid_out: bool = False) -> CheckpointCatalog:
    """Return what the file says; `laid_out`: whether it has a LAYOUT frame.

    Raises:
        CorruptCheckpointError: it is damaged or makes no sense.
    """
    try:
        names, pages, edges, *layout = _frames(file, data, run, laid_out)
        table = names.new_names()
        if table[:1] != [(0, "")] or [number for number, _ in table] != list(range(len(table))):
            raise names.corrupt("the table of names does not begin with the empty name, or has gaps")
        slots = layout[0].layout().of(np.arange(run.capacity, dtype=np.int32)) if layout else None
        return CheckpointCatalog(tuple(name for _, name in table), pages.pages(), edges.edges(), slots)
    except CorruptLogError as why:  # frames speak of the log, which is well
        raise CorruptCheckpointError(why.file, why.offset, why.reason) from why


def parse_slots(file: str, data: memoryview, run: RunIdentity) -> Int32[np.ndarray, " capacity"]:
    """Return in which slot each page lies, as the LAYOUT frame says, without decoding the others.

    Raises:
        CorruptCheckpointError: it is damaged, or makes no sense.
    """
    try:
        *_, layout = _frames(file, data, run, True)
        return layout.layout().of(np.arange(run.capacity, dtype=np.int32))
    except CorruptLogError as why:
        raise CorruptCheckpointError(why.file, why.offset, why.reason) from why


def _frames(file: str, data: memoryview, run: RunIdentity, laid_out: bool) -> Iterator[Frame]:
    at = 0
    for number, kind in enumerate(_KINDS if laid_out else _KINDS[:3]):
        header = parse_header(data[at : at + HEADER_BYTES])
        if isinstance(header, str):
            raise CorruptCheckpointError(file, at, header)
        if header.unknown:
            raise CorruptCheckpointError(file, at, header.unknown)
        body = data[at + HEADER_BYTES : at + HEADER_BYTES + header.body_bytes]
        if (header.sequence, header.kind, header.salt, crc32c(body)) != (number, kind, run.salt, header.body_crc):
            raise CorruptCheckpointError(file, at, f"there is no whole {kind.name} frame of this run")
        yield Frame(header, body, file, at, run, 0, 0)
        at += HEADER_BYTES + header.body_bytes
    if at != len(data):
        raise CorruptCheckpointError(file, at, "the catalogue goes on behind its last frame")
