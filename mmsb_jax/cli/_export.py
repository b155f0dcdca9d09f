"""`mmsb export`: the rows of a log as a file that other programs read."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from .._errors import InvalidArgumentError
from .._text import counted
from ._filters import selected
from ._output import json_text

__all__ = ["run"]

_FORMATS = {".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".parquet": "parquet", ".pq": "parquet"}


def run(options: Namespace) -> int:
    """Write the rows that are asked for, some megabytes at a time. The file appears when it is whole."""
    output, kind = options.output, options.format or _format_of(options.output)
    rows = selected(options).to_arrow()
    if output == "-":
        if kind == "parquet":
            raise InvalidArgumentError("Parquet can't be written to a pipe; name a file, or pass --format arrow")
        with pa.ipc.new_stream(sys.stdout.buffer, rows.schema) as stream:
            _copied(rows, stream.write_batch)
        return 0
    if os.path.realpath(output).startswith(os.path.join(os.path.realpath(options.path), "")):
        raise InvalidArgumentError(f"{output} is inside the run, which nobody else may write to; name a file elsewhere")
    if os.path.isdir(output):
        raise InvalidArgumentError(f"{output} is a directory; name a file")
    count, size = _published(rows, output, kind)
    if options.json:
        print(json_text({"file": output, "format": kind, "rows": count, "bytes": size}))
    else:
        print(f"wrote {counted(count, 'row')} to {output}, {counted(size, 'byte')}")
    return 0


def _format_of(output: str) -> str:
    if output == "-":
        return "arrow"
    suffix = os.path.splitext(output)[1].lower()
    if suffix not in _FORMATS:
        raise InvalidArgumentError(
            f"{output} doesn't tell a format by its name; pass --format arrow or --format parquet"
        )
    return _FORMATS[suffix]


def _published(rows: pa.RecordBatchReader, output: str, kind: str) -> tuple[int, int]:
    """Write beside the file and rename, so that nobody meets half of it. Returns how many rows and bytes."""
    partial = f"{output}.partial"
    try:
        with open(partial, "wb") as file:
            count = _written(rows, file, kind)
            size = file.tell()
        os.replace(partial, output)
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)
    return count, size


def _written(rows: pa.RecordBatchReader, file: BinaryIO, kind: str) -> int:
    if kind == "arrow":
        with pa.ipc.new_file(file, rows.schema) as writer:
            return _copied(rows, writer.write_batch)
    with pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
        return _copied(rows, writer.write_batch)


def _copied(rows: pa.RecordBatchReader, write: Callable[[pa.RecordBatch], object]) -> int:
    count = 0
    for batch in rows:
        write(batch)
        count += len(batch)
    return count
