"""Which run this is: `run.json`, for people and as the commit point of creation, and the durable mark."""

import json
import struct
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from crc32c import crc32c

from ..._errors import CorruptLogError, LogNotFoundError
from ._frame import FORMAT_VERSION
from ._storage import Storage

__all__ = [
    "MARK",
    "RUN_FILE",
    "Mark",
    "RunIdentity",
    "read_identity",
    "read_mark",
    "write_mark",
]

RUN_FILE = "run.json"
MARK = "log/mark"
_FORMAT = "mmsb"
_MAX_RUN_FILE = 1 << 16


@dataclass(frozen=True)
class RunIdentity:
    """What never changes during a run. The first frame of every segment repeats it."""

    run_id: str
    created: str
    page_words: int
    capacity: int

    @classmethod
    def new(cls, page_words: int, capacity: int) -> "RunIdentity":
        """Return the identity of a run that starts now."""
        return cls(uuid4().hex, datetime.now(UTC).isoformat(), page_words, capacity)

    @property
    def salt(self) -> int:
        """32 bits in every frame header, so that a copied frame of another run is never taken for ours."""
        return int(self.run_id[:8], 16)

    def to_json(self) -> bytes:
        """Return the contents of `run.json`."""
        return (json.dumps({"format": _FORMAT, "version": FORMAT_VERSION, **asdict(self)}, indent=2) + "\n").encode()

    def texts(self) -> dict[str, str]:
        """Return the fields as a header frame carries them."""
        return {key: str(value) for key, value in asdict(self).items()}


def read_identity(storage: Storage) -> RunIdentity:
    """Return what `run.json` says.

    Raises:
        LogNotFoundError: there is none.
        CorruptLogError: it is damaged, or was written by another format version.
    """
    if not storage.exists(RUN_FILE):
        raise LogNotFoundError(
            f"{storage.describe(RUN_FILE)} does not exist, so this is no run (it is written last). Check the path."
        )
    text = bytes(storage.read(RUN_FILE, 0, _MAX_RUN_FILE))
    try:
        return _identity(json.loads(text.decode()))
    except (ValueError, RecursionError) as why:
        offset = why.pos if isinstance(why, json.JSONDecodeError) else getattr(why, "start", 0)
        reason = f"the identity of the run can't be read ({why})"
        raise CorruptLogError(storage.describe(RUN_FILE), offset, reason) from why


def _identity(values: Any) -> RunIdentity:
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"it is not marked as format {_FORMAT!r}")
    if values.get("version") != FORMAT_VERSION:
        found = values.get("version")
        raise ValueError(f"it has format version {found!r}, but this mmsb_jax reads version {FORMAT_VERSION}")
    kinds = {"run_id": str, "created": str, "page_words": int, "capacity": int}
    for key, kind in kinds.items():
        if type(values.get(key)) is not kind:
            raise ValueError(f"{key} is {values.get(key)!r}, not {kind.__name__}")
    if datetime.fromisoformat(values["created"]).tzinfo is None:
        raise ValueError(f"created is {values['created']!r}, which has no time zone")
    if len(values["run_id"]) != 32 or not set(values["run_id"]) <= set("0123456789abcdef"):
        raise ValueError(f"run_id is {values['run_id']!r}, not 32 hexadecimal digits")
    if min(values["page_words"], values["capacity"]) < 1 or max(values["page_words"], values["capacity"]) >= 2**31:
        raise ValueError("page_words and capacity are not both between 1 and 2**31 - 1")
    return RunIdentity(**{key: values[key] for key in kinds})


class Mark(NamedTuple):
    """The last commit known to be on the device: its frame, its segment's first frame, and where it ends there.

    `boot` is that of the storage when the mark was written: the same one means that nothing written since is lost.
    """

    sequence: int
    segment: int
    end: int
    boot: int = 0


_SLOT = struct.Struct("<QQQQI")  # the mark, the run's salt; then the CRC-32C of these
_SLOT_BYTES = 40


def write_mark(storage: Storage, mark: Mark, salt: int, slot: int) -> None:
    """Write one of the two slots; the other keeps the mark before, in case this write is torn."""
    fields = _SLOT.pack(*mark, salt)
    storage.write(MARK, slot * _SLOT_BYTES, [fields + struct.pack("<I", crc32c(fields))])


def read_mark(storage: Storage, salt: int) -> tuple[Mark, int]:
    """Return the newer mark and its slot.

    Raises:
        CorruptLogError: neither slot can be read; the first mark is written before `run.json`, so there is always one.
    """
    data = storage.read(MARK, 0, 2 * _SLOT_BYTES) if storage.exists(MARK) else memoryview(b"")
    found = []
    for slot in range(2):
        fields = data[slot * _SLOT_BYTES : slot * _SLOT_BYTES + _SLOT.size]
        crc = data[slot * _SLOT_BYTES + _SLOT.size : (slot + 1) * _SLOT_BYTES]
        if len(crc) == 4 and crc32c(fields) == int.from_bytes(crc, "little") and _SLOT.unpack(fields)[-1] == salt:
            found.append((Mark(*_SLOT.unpack(fields)[:-1]), slot))
    if not found:
        raise CorruptLogError(storage.describe(MARK), 0, "no slot of the mark, which says what was committed, is valid")
    return max(found)
