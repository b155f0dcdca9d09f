"""The manifest of a checkpoint: which run and moment it is of, which parts it has, and the checksums of all bytes.

It is published last and appears whole, so that it decides whether there is a checkpoint. Its first bytes are a checksum
of all others.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from crc32c import crc32c

from ..._errors import CorruptCheckpointError
from ._parts import BLOCK_BYTES, PartLayout, PartSums
from ._position import LogPosition

__all__ = [
    "FOLDER",
    "CatalogEntry",
    "CheckpointInfo",
    "Manifest",
    "PartEntry",
    "file_name",
    "info_of",
    "is_file_name",
    "owner_of",
    "pack_manifest",
    "parse_manifest",
]

FOLDER = "checkpoints"
_FORMAT, _VERSION = "mmsb-checkpoint", 1
_MANIFEST = re.compile(r"(\d{10})-(\d{20})\.json", re.ASCII)
_FILE = re.compile(r"(\d{10}-\d{20})\.(\d{5,12})\.(?:safetensors|frames)", re.ASCII)
_BEFORE, _AFTER = b'{"crc32c":"', b'",'
_SUM_END = len(_BEFORE) + 8


class CheckpointInfo(NamedTuple):
    """A checkpoint by its name: the tick of its state, and the sequence number of the last frame that is in it.

    >>> CheckpointInfo(tick=10, sequence=42).name
    'checkpoints/0000000010-00000000000000000042.json'
    """

    tick: int
    sequence: int

    @property
    def name(self) -> str:
        """The name of its manifest in the run."""
        return f"{FOLDER}/{self.stem}.json"

    @property
    def stem(self) -> str:
        """What the names of its own files begin with."""
        return f"{self.tick:010d}-{self.sequence:020d}"


def info_of(name: str) -> CheckpointInfo | None:
    """Return what the name of a manifest says, or None when it is not the name of one."""
    found = _MANIFEST.fullmatch(name.removeprefix(f"{FOLDER}/"))
    info = found and CheckpointInfo(int(found[1]), int(found[2]))
    return info if info and info.tick < 2**32 and info.sequence < 2**64 else None


def file_name(info: CheckpointInfo, number: int, kind: str) -> str:
    """Return the name, within the folder, of a file that belongs to a checkpoint."""
    return f"{info.stem}.{number:05d}.{kind}"


def owner_of(file: str) -> tuple[str, int] | None:
    """Return the stem and the number in the name of a part or catalogue, or None for any other name."""
    found = _FILE.fullmatch(file)
    return (found[1], int(found[2])) if found else None


def is_file_name(name: str) -> bool:
    """Return whether a file in the folder may be one of ours: a manifest, a part or a catalogue."""
    return bool(_FILE.fullmatch(name) or _MANIFEST.fullmatch(name))


class PartEntry(NamedTuple):
    """A part in a manifest: its file, within the folder, and its checksums."""

    file: str
    sums: PartSums


class CatalogEntry(NamedTuple):
    """The file with names, records and edges: its name within the folder, its length and its CRC-32C."""

    file: str
    size: int
    crc: int


@dataclass(frozen=True, eq=False)
class Manifest:
    """What a manifest says. The parts that aren't there hold pages that were never written."""

    run_id: str
    layout: PartLayout
    tick: int
    digest: tuple[int, int] | None
    position: LogPosition
    catalog: CatalogEntry
    parts: Mapping[int, PartEntry]
    laid_out: bool = False
    """Whether the catalogue says in which slots pages lie."""

    @property
    def info(self) -> CheckpointInfo:
        """What its name says."""
        return CheckpointInfo(self.tick, self.position.sequence)

    @property
    def files(self) -> set[str]:
        """The names, within the folder, of all files that it needs."""
        return {self.catalog.file, *(entry.file for entry in self.parts.values())}


def pack_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest: a JSON object whose first entry is the CRC-32C of all that follows it."""
    text = json.dumps(
        {
            "format": _FORMAT,
            "version": _VERSION,
            "run_id": manifest.run_id,
            "capacity": manifest.layout.capacity,
            "page_words": manifest.layout.words,
            "tick": manifest.tick,
            "digest": manifest.digest,
            "log": manifest.position._asdict(),
            "catalog": manifest.catalog._asdict(),
            "block_bytes": BLOCK_BYTES,
            "part_pages": manifest.layout.part_pages,
            **({"laid_out": True} if manifest.laid_out else {}),
            "parts": [
                {"index": index, "file": entry.file, "pages": _hex(entry.sums.pages), "epoch": _hex(entry.sums.epoch)}
                for index, entry in sorted(manifest.parts.items())
            ],
        },
        separators=(",", ":"),
    ).encode()
    rest = _AFTER + text[1:] + b"\n"
    return _BEFORE + b"%08x" % crc32c(rest) + rest


def parse_manifest(file: str, data: memoryview) -> Manifest:
    """Return what a manifest says; whether it fits the run, its name and the log is for the caller to see.

    Raises:
        CorruptCheckpointError: it is damaged, makes no sense, or was written by another format version.
    """
    if data[: len(_BEFORE)] != _BEFORE or data[len(_BEFORE) : _SUM_END] != b"%08x" % crc32c(data[_SUM_END:]):
        raise CorruptCheckpointError(file, 0, "the checksum of the manifest is wrong")
    try:
        return _manifest(json.loads(bytes(data)))
    except (ValueError, TypeError, KeyError, RecursionError) as why:
        raise CorruptCheckpointError(file, 0, f"the manifest makes no sense ({why})") from why


def _manifest(values: Any) -> Manifest:
    found = (values["format"], _number(values, "version", 2**31), _number(values, "block_bytes", 2**31))
    if found != (_FORMAT, _VERSION, BLOCK_BYTES):
        raise ValueError(f"format, version and block size are {found}; this mmsb_jax reads version {_VERSION}")
    log, catalog = values["log"], values["catalog"]
    position = LogPosition(*(_number(log, key, 2**63) for key in LogPosition._fields))
    digest = values["digest"]
    if digest is not None and (len(digest) != 2 or any(type(n) is not int or not 0 <= n < 2**32 for n in digest)):
        raise ValueError(f"the digest is {digest!r}")
    layout = PartLayout(*(_number(values, key, 2**31, 1) for key in ("capacity", "page_words", "part_pages")))
    return Manifest(
        str(values["run_id"]),
        layout,
        _number(values, "tick", 2**32),
        None if digest is None else (digest[0], digest[1]),
        position,
        CatalogEntry(_file(catalog), _number(catalog, "size", 2**63), _number(catalog, "crc", 2**32)),
        _parts(values["parts"], layout),
        _laid_out(values),
    )


def _laid_out(values: Any) -> bool:
    if values.get("laid_out", True) is not True:
        raise ValueError(f"laid_out is {values['laid_out']!r}; it is true, or left out")
    return "laid_out" in values


def _parts(entries: Any, layout: PartLayout) -> dict[int, PartEntry]:
    if not isinstance(entries, list):
        raise ValueError(f"the parts are {type(entries).__name__}, not a list")
    parts: dict[int, PartEntry] = {}
    for entry in entries:
        index = _number(entry, "index", layout.parts)
        if index in parts:
            raise ValueError(f"part {index} is named twice")
        _, pages, words = layout.shape(index)
        sums = PartSums(_sums(entry["pages"], 4 * pages * words), _sums(entry["epoch"], 4 * pages))
        parts[index] = PartEntry(_file(entry), sums)
    return parts


def _number(values: Any, key: str, end: int, low: int = 0) -> int:
    value = values[key]
    if type(value) is not int or not low <= value < end:
        raise ValueError(f"{key} is {value!r}")
    return value


def _file(values: Any) -> str:
    # A name that can't lead out of the folder, whatever the file system.
    if not isinstance(values["file"], str) or not _FILE.fullmatch(values["file"]):
        raise ValueError(f"{values['file']!r} is no name of a file of a checkpoint")
    return values["file"]


def _hex(sums: np.ndarray) -> str:
    return sums.astype(">u4").tobytes().hex()


def _sums(text: Any, size: int) -> np.ndarray:
    sums = np.frombuffer(bytes.fromhex(text), ">u4").astype(np.uint32)
    if len(sums) != -(-size // BLOCK_BYTES):
        raise ValueError(f"{len(sums)} checksums are given for {size} bytes")
    return sums
