"""Checkpoints of 1 GiB: writing, opening, loading, beside a plain file and the checkpoints that others write.

Every program's result reads back what it wrote, so that what is compared is what lies on the disk. A plain write is one
file, written and synced; safetensors is synced too, which it doesn't do by itself.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmsb_jax.page import (
    CheckpointInfo,
    PageChanges,
    Snapshot,
    TransactionLog,
    checkpoints,
    from_orbax,
    open_checkpoint,
    remove_checkpoint,
    to_orbax,
    write_checkpoint,
)

from ._harness import Case, OnDisk, Peer, Program

WORDS = 256
CHANGED = 100  # one page in so many is written between two checkpoints


@dataclass(frozen=True)
class Inputs:
    """A run with a state that fills it, and a folder for what others write."""

    pages: int

    @cached_property
    def folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="mmsb-bench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def snapshot(self) -> Snapshot:
        words = np.random.default_rng(7).integers(0, 2**32, (self.pages, WORDS), np.uint32)
        with TransactionLog.create(self.run, page_words=WORDS, capacity=self.pages, fingerprint={}) as log:
            zero = np.zeros(1, np.int32)
            for tick in (1, 2, 3):
                log.append_changes(tick, PageChanges(zero, zero, None, words[:1]))
            return Snapshot(words, np.ones(self.pages, np.uint32), 2, log.sequence - 1)

    @cached_property
    def later(self) -> Snapshot:
        """The next tick, at which neighbouring pages were written."""
        words, epoch = self.snapshot.pages.copy(), self.snapshot.epoch.copy()
        changed = slice(self.pages // 2, self.pages // 2 + max(1, self.pages // CHANGED))
        words[changed] += np.uint32(1)
        epoch[changed] = 3
        return Snapshot(words, epoch, 3, self.snapshot.sequence + 1)

    @property
    def run(self) -> Path:
        return self.folder / "run.mmsb"


def _same(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _written(inputs: Inputs, info: CheckpointInfo) -> OnDisk:
    return OnDisk(lambda: open_checkpoint(inputs.run, info).load().pages)


def _write(inputs: Inputs) -> Program:
    snapshot = inputs.snapshot

    def before() -> None:
        for info in checkpoints(inputs.run):
            remove_checkpoint(inputs.run, info)

    return Program(lambda: _written(inputs, write_checkpoint(inputs.run, snapshot)), before=before)


def _write_plainly(inputs: Inputs) -> Program:
    path, words = inputs.folder / "plain", inputs.snapshot.pages

    def run() -> OnDisk:
        with open(path, "wb", buffering=0) as file:
            left = memoryview(words).cast("B")
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        return OnDisk(lambda: np.fromfile(path, np.uint32).reshape(words.shape))

    return Program(run, before=lambda: path.unlink(missing_ok=True))


def _write_safetensors(inputs: Inputs) -> Program:
    from safetensors.numpy import load_file, save_file

    path, words = inputs.folder / "peer.safetensors", inputs.snapshot.pages

    def run() -> OnDisk:
        save_file({"pages": words}, path)
        _sync(path)
        return OnDisk(lambda: load_file(path)["pages"])

    return Program(run, before=lambda: path.unlink(missing_ok=True))


def _write_orbax(inputs: Inputs) -> Program:
    path, words = inputs.folder / "orbax", inputs.snapshot.pages

    def run() -> OnDisk:
        to_orbax({"pages": words}, path)
        return OnDisk(lambda: from_orbax(path)["pages"])

    return Program(run, before=lambda: shutil.rmtree(path, ignore_errors=True))


def _write_on_a_base(inputs: Inputs) -> Program:
    base, later = write_checkpoint(inputs.run, inputs.snapshot), inputs.later

    def before() -> None:
        for info in checkpoints(inputs.run):
            if info != base:
                remove_checkpoint(inputs.run, info)

    return Program(lambda: _written(inputs, write_checkpoint(inputs.run, later, base=base)), before=before)


def _write_without_base(inputs: Inputs) -> Program:
    later = inputs.later

    def before() -> None:
        for info in checkpoints(inputs.run):
            if info.tick == later.tick:
                remove_checkpoint(inputs.run, info)

    return Program(lambda: _written(inputs, write_checkpoint(inputs.run, later)), before=before)


def _first_page(inputs: Inputs) -> Program:
    info = write_checkpoint(inputs.run, inputs.snapshot)
    parts = list((inputs.run / "checkpoints").iterdir())

    def before() -> None:
        for part in parts:  # out of the page cache, so that the disk is read
            handle = os.open(part, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)

    return Program(lambda: open_checkpoint(inputs.run, info).pages([inputs.pages // 2]), before=before)


def _load(inputs: Inputs) -> Program:
    info = write_checkpoint(inputs.run, inputs.snapshot)
    return Program(lambda: open_checkpoint(inputs.run, info).load().pages)


def _load_safetensors(inputs: Inputs) -> Program:
    from safetensors.numpy import load_file, save_file

    path = inputs.folder / "peer.safetensors"
    save_file({"pages": inputs.snapshot.pages}, path)
    return Program(lambda: load_file(path)["pages"])


def _load_orbax(inputs: Inputs) -> Program:
    path = inputs.folder / "orbax"
    shutil.rmtree(path, ignore_errors=True)
    to_orbax({"pages": inputs.snapshot.pages}, path)
    return Program(lambda: from_orbax(path)["pages"])


def _case(name: str, ours: Callable[[Inputs], Program], *peers: Peer, **more: Any) -> Case:
    return Case(f"checkpoint/{name}", lambda quick: Inputs(500 if quick else 1 << 20), ours, peers, **more)


CASES: tuple[Case, ...] = (
    _case(
        "write 1 GiB",
        _write,
        Peer("a plain write and sync", _write_plainly, _same, target=1 / 1.3),
        Peer("safetensors", _write_safetensors, _same, needs="safetensors"),
        Peer("Orbax", _write_orbax, _same, needs="orbax"),
    ),
    _case(
        "write 1 GiB after 1 % changed", _write_on_a_base, Peer("the same without a base", _write_without_base, _same)
    ),
    _case("open 1 GiB and read a page, from disk", _first_page, items=lambda inputs: 1, unit="pages", floor=20),
    _case(
        "load 1 GiB",
        _load,
        Peer("safetensors", _load_safetensors, _same, needs="safetensors"),
        Peer("Orbax", _load_orbax, _same, needs="orbax"),
        items=lambda inputs: inputs.snapshot.pages.nbytes,
        unit="bytes",
    ),
)
