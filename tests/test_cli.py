"""The `mmsb` program: how it ends, what it never does, and what it says when asked wrongly. No traceback, ever."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax.cli import main
from mmsb_jax.page import PageChanges, TransactionLog
from tests.cli_runs import HOSTILE, Asked, bus, recorded, strict

PROGRAM = Path(sys.executable).with_name("mmsb")
READING = {
    "log": [],
    "show": [],
    "diff": ["0", "1"],
    "blame": ["b"],
    "verify": [],
    "stats": [],
    "export": ["-o", "out.arrow"],
}


@pytest.fixture
def ask(capsys):
    return Asked(capsys)


@pytest.fixture
def run(run_dir):
    return bus(run_dir)


def test_help_names_every_command_and_status_without_jax():
    code = "import sys, mmsb_jax.cli as c\ntry: c.main(sys.argv[1:])\nfinally: print(*sorted(sys.modules))"
    for command in ([], *([name] for name in [*READING, "compact"])):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=True
        )
        *shown, modules = done.stdout.splitlines()
        assert not {"jax", "numpy", "pyarrow"} & set(modules.split())
        if not command:
            assert {line.split()[0] for line in shown if re.match(r"    \w", line)} >= {*READING, "compact"}
            assert [line.split()[0] for line in shown if re.match(r"  \d  ", line)] == ["0", "1", "2", "3"]
        else:
            assert shown[0].startswith(f"usage: mmsb {command[0]}")


@pytest.mark.parametrize("command", READING)
def test_help_tells_the_keys_of_the_json(ask, run, capsys, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    status, out, _ = ask(command, run, *READING[command], "--json")
    assert status in (0, 1)
    document = strict(out.splitlines()[0])
    keys = [*document, *itertools.chain(*document.get("parts", [])[:1])]
    if command != "stats":  # its keys are those of its lines
        assert [key for key in keys if not re.search(rf"\b{key}\b", shown)] == []


@pytest.mark.parametrize("command", READING)
def test_names_of_a_hostile_log_never_reach_the_terminal(ask, run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [HOSTILE if each == "b" else each for each in READING[command]]
    for options in ([], ["--json"]):
        status, out, err = ask(command, run, *arguments, *options)
        assert (status in (0, 1), err) == (True, "")
        assert {unicodedata.category(c) for c in out} & {"Cc", "Cf"} <= {"Cc"}
        assert {c for c in out if unicodedata.category(c) == "Cc"} == {"\n"}
        assert not [line for line in out.splitlines() if line.startswith("forged")]
    status, _, err = ask("show", run, "\x1b[31mno such")
    assert status == 2
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_nothing_is_written(ask, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def files():
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file()}

    before = files()
    for command, arguments in READING.items():
        ask(command, run, *arguments)
    assert files() == before
    with mmsb.start(run):  # nor is a lock in the way
        assert [ask(command, run, *arguments)[0] for command, arguments in READING.items()] == [0, 0, 1, 0, 0, 0, 0]


def damage(path):
    (segment,) = path.glob("log/*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    for index in path.glob("log/*.idx"):
        index.unlink()


@pytest.mark.parametrize("command", READING)
def test_a_damaged_run(ask, run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage(run)
    status, out, err = ask(command, run, *READING[command])
    assert status == (1 if command == "verify" else 3)
    assert re.match(r"mmsb: .*\.seg, byte \d+: ", err)
    assert err.count("\n") == 1
    assert "ok" not in out.split()
    assert not list(tmp_path.glob("out.arrow*"))


def test_verify_tells_programs_where_it_fails(ask, run):
    damage(run)
    status, out, err = ask("verify", run, "--json")
    assert status == 1
    found = strict(out)
    assert found["ok"] is False
    assert f"mmsb: {found['error']}\n" == err


def test_a_run_that_replays_to_other_bits(ask, run_dir, monkeypatch):
    monkeypatch.setattr("mmsb_jax._engine.Engine.lanes", lambda self, of=None: (1, 2))
    with mmsb.start(run_dir, page_bytes=8, capacity=4) as found:
        found.create_page(8)
    status, out, err = ask("verify", run_dir)
    assert (status, out) == (1, "")
    assert "has the digest 0000000100000002, but replaying the log up to it gives 0000000000000000" in err


@pytest.mark.parametrize("command", [*READING, "compact"])
@pytest.mark.parametrize("kind", ["nothing", "file", "foreign"])
def test_a_path_that_holds_no_run(ask, tmp_path, command, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("hello")
    elif kind == "foreign":
        path.mkdir()
        (path / "notes.txt").write_text("hello")
    status, out, err = ask(command, path, *READING.get(command, ["--before", 1]))
    assert (status, out) == (3, "")
    assert err.startswith(f"mmsb: {path}")


def test_a_run_that_another_one_writes_is_not_compacted(ask, run):
    with mmsb.start(run):
        status, out, err = ask("compact", run, "--before", 1)
    assert (status, out) == (3, "")
    assert "lock" in err or "writ" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["log"],
        ["repair", "x"],
        ["log", "x", "-n", "-1"],
        ["log", "x", "--limit", "two"],
        ["log", "x", "--since", "yesterday"],
        ["show", "x", "--at", "1", "--time", "2"],
        ["diff", "x"],
        ["diff", "x", "1", "two"],
        ["blame", "x", "y", "--element", "one"],
        ["compact", "x"],
        ["export", "x"],
        ["export", "x", "-o", "y", "--format", "csv"],
    ],
    ids=" ".join,
)
def test_a_wrong_command(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: mmsb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["show", "--at", 99], "this run has 0 to 4"),
        (["show", "bb"], "did you mean 'b'?"),
        (["show", 7], "nothing lies on page 7"),
        (["diff", "1"], "got one epoch, 1"),
        (["diff", "one", "2"], "got 'one' for an epoch"),
        (["blame"], "nothing in this run is called ''"),
        (["log", "--leaf", "c"], "nothing in this run is called 'c'"),
        (["compact", "--before", 99], "at most 4"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_something_that_the_run_does_not_have(ask, run, arguments, why):
    status, out, err = ask(arguments[0], run, *arguments[1:])
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1


def test_as_a_program(run):
    shown = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"mmsb-jax {mmsb.__version__}\n"
    failed = subprocess.run([PROGRAM, "verify", run.parent], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (3, "")
    assert "Traceback" not in failed.stderr
    plain = os.environ | {"PYTHONIOENCODING": "ascii"}  # a terminal that can't show all that a name may hold
    with mmsb.start(run) as found:
        found.create_page(4, name="größe")
    shown = subprocess.run([PROGRAM, "show", run], capture_output=True, text=True, check=True, env=plain)
    assert r"gr\xf6\xdfe" in shown.stdout


def test_looking_takes_no_device(run):
    code = "import sys, mmsb_jax.cli as c\nc.main(['verify', sys.argv[1]])\nimport jax; print(jax.config.jax_platforms)"
    free = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    done = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=True, env=free)
    assert done.stdout.splitlines()[-2:] == ["ok", "cpu"]


@pytest.mark.parametrize("command", ["log", "show"])
def test_a_reader_that_has_seen_enough(run, monkeypatch, command):
    """As in `mmsb log run | head`: the pipe closes before everything is written."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main([command, str(run)]) == 0


@contextlib.contextmanager
def running(*arguments):
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_following_another_process_until_ctrl_c(run_dir):
    path = recorded(run_dir)
    with TransactionLog.open(path, fingerprint={}) as log:
        row = np.zeros(1, np.int32), np.zeros(1, np.int32), None, np.ones((1, 16), np.uint32)
        with running("log", path, "--follow", "--json", "-n", "1") as process:
            assert strict(process.stdout.readline())["epoch"] == 10
            for tick in (11, 12):
                log.append_changes(tick, PageChanges(*row), intent=f"step {tick}")
                line = strict(process.stdout.readline())
                assert (line["epoch"], line["intent"]) == (tick, f"step {tick}")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out, err) == (130, "", "")
