"""The `mmsb` command: its tables, its JSON, its exit status; never a traceback."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch
from mmsb_jax.cli import main

COLUMNS = ["sequence", "tick", "time", "kind", "rows", "sources", "intent", "digest"]


@pytest.fixture
def run(run_dir):
    """A run of four commits: a page made, two updates, a tick of two sources."""
    with mmsb.start(run_dir, page_bytes=8, capacity=4) as bus:
        page = bus.create_page(8, name="x")
        bus.update_page(page, np.array([1, 2], np.int32), source="sensor", intent="first\x1b[31m\nlook")
        bus.update_page(page, np.array([1, 3], np.int32))
        ids = [bus.source_id(name) for name in ("left", "rechts")]
        words = np.array([[8, 0], [8, 9]], np.int32)
        bus.apply(DeltaBatch.make(bus.state, [0, 0], words, mask=[[True, False], [False, True]], source=ids))
        yield run_dir, "".join(f"{lane:08x}" for lane in bus.digest())


def test_log_prints_a_table(run, capsys):
    path, digest = run
    assert main(["log", str(path)]) == 0
    printed = capsys.readouterr()
    head, *rows = printed.out.splitlines()
    assert head.split() == COLUMNS
    assert (len(rows), printed.err) == (4, "")
    assert [row.split()[1] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0].split()[3:5] == ["pages", "1"]
    assert "sensor" in rows[1]
    assert r"first\x1b[31m\nlook" in rows[1], "control characters must not reach the terminal"
    assert "left, rechts" in rows[3]
    assert rows[3].endswith(digest)
    assert len({row.index(row.split()[3]) for row in rows}) == 1, "columns stand under each other"


def test_log_prints_json(run, capsys):
    path, digest = run
    assert main(["log", str(path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(list(row) == COLUMNS for row in rows)
    assert [row["sources"] for row in rows] == [[], ["sensor"], ["api"], ["left", "rechts"]]
    assert rows[1]["intent"] == "first\x1b[31m\nlook"
    assert rows[-1]["digest"] == digest
    age = datetime.now(UTC) - datetime.fromisoformat(rows[0]["time"])
    assert 0 <= age.total_seconds() < 600


@pytest.mark.parametrize(("limit", "ticks"), [(0, []), (1, [3]), (3, [1, 2, 3]), (99, [0, 1, 2, 3])])
def test_the_last_commits_only(run, capsys, limit, ticks):
    assert main(["log", str(run[0]), "--json", "--limit", str(limit)]) == 0
    assert [json.loads(line)["tick"] for line in capsys.readouterr().out.splitlines()] == ticks


def test_verify(run, capsys):
    path, digest = run
    assert main(["verify", str(path)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line != "ok")
    frames = sum(1 for _ in mmsb.page.read_frames(path))
    assert lines == {"frames": str(frames), "ticks": "3", "digest": digest}


def damage(path: Path) -> None:
    (segment,) = path.glob("log/*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


@pytest.mark.parametrize("command", ["log", "verify"])
def test_a_damaged_run(run, capsys, command):
    damage(run[0])
    assert main([command, str(run[0])]) == 1
    printed = capsys.readouterr()
    assert ".seg, byte " in printed.err
    assert printed.err.startswith("mmsb: ")
    assert "ok" not in printed.out.split()


def test_a_run_that_replays_to_other_bits(run_dir, capsys, monkeypatch):
    monkeypatch.setattr("mmsb_jax._engine.Engine.lanes", lambda self, of=None: (1, 2))
    with mmsb.start(run_dir, page_bytes=8, capacity=4) as bus:
        bus.create_page(8)
    assert main(["verify", str(run_dir)]) == 1
    printed = capsys.readouterr()
    assert "gives the digest 0000000000000000, but the run logged 0000000100000002" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("command", ["log", "verify"])
@pytest.mark.parametrize("kind", ["nothing", "file", "foreign"])
def test_a_path_that_holds_no_run(tmp_path, capsys, command, kind):
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("hello")
    elif kind == "foreign":
        path.mkdir()
        (path / "notes.txt").write_text("hello")
    assert main([command, str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"mmsb: {path}")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["log"],
        ["repair", "x"],
        ["log", "x", "--limit", "-1"],
        ["log", "x", "--limit", "two"],
        ["verify", "--json", "x"],
    ],
    ids=" ".join,
)
def test_a_wrong_command(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: mmsb" in capsys.readouterr().err


def test_as_a_program(run):
    script = Path(sys.executable).with_name("mmsb")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"mmsb-jax {mmsb.__version__}\n"
    failed = subprocess.run([script, "verify", run[0].parent], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "Traceback" not in failed.stderr


def test_a_reader_that_has_seen_enough(run, monkeypatch):
    """As in `mmsb log run | head`: the pipe closes before everything is written."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["log", str(run[0])]) == 0
