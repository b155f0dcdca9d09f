"""What the commands of `mmsb` say, against the API and NumPy."""

import json
import sys
from datetime import UTC, datetime

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmsb_jax as mmsb
from mmsb_jax.page import select
from tests.cli_runs import HOSTILE, STEPS, Asked, bus, ensemble, recorded, trees
from tests.recordings import START


@pytest.fixture
def ask(capsys):
    return Asked(capsys)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A recorded run, the same but longer, an ensemble, a run of a bus."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "recorded": recorded(folder / "recorded"),
        "longer": recorded(folder / "longer", STEPS + 2),
        "other": recorded(folder / "other", STEPS, every=2),
        "ensemble": ensemble(folder / "ensemble"),
        "bus": bus(folder / "bus"),
    }


def lines(ask, *arguments):
    return [json.loads(line) for line in ask.text(*arguments, "--json")]


def test_log_as_a_table(ask, runs):
    head, *rows = ask.text("log", runs["bus"])
    assert head.split() == ["sequence", "epoch", "time", "kind", "rows", "digest", "sources", "intent"]
    kinds = ["pages"] * 3 + ["changes"] * 2 + ["edges", "changes", "edges", "pages"]
    assert [row.split()[4] for row in rows] == kinds
    assert [int(row.split()[1]) for row in rows] == [0, 0, 0, 1, 2, 2, 3, 3, 4]
    assert rows[6].endswith("left, rechts")
    assert rows[4].endswith("set up")
    assert len({row.index(kind) for row, kind in zip(rows, kinds, strict=True)}) == 1, "columns stand under each other"


def test_log_as_json(ask, runs):
    rows = lines(ask, "log", runs["bus"])
    assert [row["sources"] for row in rows if row["kind"] == "changes"] == [[HOSTILE], ["api"], ["left", "rechts"]]
    assert [row["intent"] for row in rows if row["kind"] == "changes"] == [HOSTILE, "set up", ""]
    lanes = mmsb.digest(mmsb.replay(runs["bus"])).tolist()
    assert rows[-1]["digest"] == "".join(f"{lane:08x}" for lane in lanes)
    age = datetime.now(UTC) - datetime.fromisoformat(rows[0]["time"])
    assert 0 <= age.total_seconds() < 600


@pytest.mark.parametrize(
    ("chosen", "spans"),
    [
        ([], [(0, 0), (0, 0), (1, 3), (4, 6), (7, 9), (10, 10)]),
        (["-n", 2], [(7, 9), (10, 10)]),
        (["--limit", 0], []),
        (["--from", 5, "--to", 8], [(5, 6), (7, 8)]),
        (["--from", -2], [(9, 9), (10, 10)]),
        (["--leaf", "n", "--to", 2], [(0, 0), (1, 2)]),
        (["--page", 0, "--page", 2, "--from", 1, "-n", 1], [(10, 10)]),
        (["--source", "init"], [(0, 0)]),
        (["--source", "nobody"], []),
        (["--intent", ""], [(0, 0), (0, 0), (1, 3), (4, 6), (7, 9), (10, 10)]),
        (["--until", START + 5], [(0, 0), (0, 0), (1, 3)]),
        (["--since", datetime.fromtimestamp(START + 5).isoformat()], [(4, 6), (7, 9), (10, 10)]),
        (["--since", "1d"], []),
    ],
    ids=lambda value: " ".join(map(str, value)) if value and isinstance(value[0], str) else "",
)
def test_log_of_what_is_asked_for(ask, runs, chosen, spans):
    found = lines(ask, "log", runs["recorded"], *chosen)
    assert [(row["first_epoch"], row["epoch"]) for row in found] == spans
    shown = [f"{first}-{last}" if first < last else str(last) for first, last in spans]
    assert [row.split()[1] for row in ask.text("log", runs["recorded"], *chosen)[1:]] == shown


def test_show_all_parts(ask, runs):
    for name, options in (("recorded", ["--at", 6]), ("recorded", []), ("ensemble", ["--member", 1]), ("bus", [])):
        run = mmsb.open_run(runs[name])
        parts = run.parts(6 if "--at" in options else None, member=1 if "--member" in options else None)
        assert ask.text("show", runs[name], *options) == str(parts).splitlines()
        document = ask.json("show", runs[name], *options)
        assert document["epoch"] == parts.epoch
        assert [(p["part"], p["dtype"], p["nans"]) for p in document["parts"]] == [
            (p.name, p.dtype, p.nans) for p in parts
        ]
    at_a_time = ask.json("show", runs["recorded"], "--time", START + 5)
    assert at_a_time["epoch"] == 3


def test_show_values(ask, runs):
    tree = trees()[6]
    (found,) = ask.json("show", runs["recorded"], "field", "--at", 6)["parts"]
    assert found["values"][0][6] == "NaN"
    values = np.array([[float(each) for each in row] for row in found["values"]], np.float32)
    np.testing.assert_array_equal(values, tree["field"])
    assert (found["min"], found["max"], found["nans"]) == (0.0, 105.0, 1)
    (halves,) = ask.json("show", runs["recorded"], "['halves']", "--at", -1)["parts"]
    assert (halves["values"], halves["max"]) == ([0.5, 10.0, "Infinity"], "Infinity")
    (key,) = ask.json("show", runs["recorded"], "key", "--step", 6)["parts"]
    assert (key["dtype"], key["values"]) == ("key<fry>", jax.random.key_data(jax.random.key(6)).tolist())
    assert ask.text("show", runs["recorded"], "n", "--at", 3) == ["['n']  int32[]  epoch 3", "3"]
    shown = ask.text("show", runs["recorded"], "field")
    assert shown[1:] == str(trees()[-1]["field"]).splitlines()


def test_show_members_and_pages(ask, runs):
    (all_members,) = ask.json("show", runs["ensemble"], "x")["parts"]
    assert all_members["values"] == [[0, 1, 2], [1, 0, 3], [2, 3, 4]]
    (one,) = ask.json("show", runs["ensemble"], "x", "--member", 2)["parts"]
    assert (one["values"], one["pages"]) == ([2, 3, 4], [[2, 2]])
    by_page = ask.json("show", runs["ensemble"], 2)["parts"]
    assert [part["values"] for part in by_page] == [[2, 3, 4]]


def test_show_a_bus_as_another_type(ask, runs):
    (b,) = ask.json("show", runs["bus"], "b", "--dtype", "float32")["parts"]
    assert (b["values"], b["pages"], b["mean"]) == ([1, 2, 4], [[1, 2]], pytest.approx(7 / 3))
    parts = ask.json("show", runs["bus"], "--dtype", "int64", "--at", 1)["parts"]
    assert {part["part"]: (part["dtype"], part["shape"]) for part in parts} == {
        HOSTILE: ("int64", [1]),
        "b": ("uint8", [12]),  # not a whole number of them
        "gone": ("uint8", [4]),
    }
    for asked, why in ((["b", "--dtype", "int64"], "12 bytes"), (["--dtype", "wide"], "NumPy doesn't know")):
        status, out, err = ask("show", runs["bus"], *asked)
        assert (status, out) == (2, "")
        assert why in err
    assert ask("show", runs["recorded"], "--dtype", "int8")[0] == 2


def test_diff_of_two_epochs(ask, runs):
    run = mmsb.open_run(runs["recorded"])
    assert ask.text("diff", runs["recorded"], 4, 6, status=1) == str(run.diff(4, 6)).splitlines()
    found = ask.json("diff", runs["recorded"], 4, -5, status=1)
    assert (found["first"], found["second"], found["same"]) == (4, 6, False)
    parts = {part["part"]: part for part in found["parts"]}
    assert list(parts) == ["['field']", "['halves']", "['key']", "['n']"]
    field = parts["['field']"]
    assert (field["indices"], field["old"], field["new"]) == ([[0, 5], [0, 6]], [5, 6], [105, "NaN"])
    assert (parts["['n']"]["indices"], parts["['n']"]["old"], parts["['n']"]["new"]) == ([[]], [4], [6])
    assert parts["['key']"]["new"] == [jax.random.key_data(jax.random.key(6)).tolist()]
    assert ask.text("diff", runs["recorded"], 3, 3) == ["epoch 3 -> 3: nothing differs"]
    assert ask.json("diff", runs["recorded"], 3, 3)["same"] is True


def test_diff_of_a_bus_tells_of_pages(ask, runs):
    found = ask.json("diff", runs["bus"], 1, 4, status=1)
    assert (found["appeared"], found["vanished"]) == ([], ["gone"])
    text = "\n".join(ask.text("diff", runs["bus"], 1, 4, status=1))
    assert "- gone" in text
    assert r"wind\x1b[31m\nforged line\x9b: " in text


def test_diff_of_two_runs(ask, runs, tmp_path):
    same = recorded(tmp_path / "same")
    assert ask.text("diff", runs["recorded"], same) == ["the same at 11 epochs in common, 0 to 10"]
    assert ask.json("diff", runs["recorded"], same)["same"] is True
    shorter = ask.text("diff", runs["recorded"], runs["longer"], status=1)
    assert shorter == ["the same at 11 epochs in common, 0 to 10", f"{runs['longer']} goes on to 12"]
    assert ask.json("diff", runs["longer"], runs["recorded"], status=1)["parts"] == []
    first = ask.text("diff", runs["recorded"], runs["other"], status=1)
    assert first[0] == "the first difference is at epoch 2, of 6 epochs in common"
    assert ask.json("diff", runs["recorded"], runs["other"], status=1)["first"] == 2


def test_blame(ask, runs):
    run = mmsb.open_run(runs["recorded"])
    for options, epoch in ([], None), (["--at", 5], 5):
        blame = run.blame("field", epoch=epoch)
        assert ask.text("blame", runs["recorded"], "field", *options) == str(blame).splitlines()
        found = ask.json("blame", runs["recorded"], "field", *options)
        numbers = np.array(found["elements"]).reshape(found["shape"])
        np.testing.assert_array_equal(np.array([w["epoch"] for w in found["writes"]])[numbers], blame.epoch)
        assert sum(write["elements"] for write in found["writes"]) + found["never"] == 35
    one = ask.json("blame", runs["recorded"], "field", "--element", "0,5")
    assert (one["element"], one["write"]["epoch"], one["write"]["source"]) == ([0, 5], 5, "step")
    (line,) = ask.text("blame", runs["recorded"], "field", "--element=-1,0")
    assert line.split()[:2] + line.split()[4:] == ["epoch", "0", "init"]
    (line,) = ask.text("blame", runs["bus"], "b", "--element", "3")
    assert line.endswith("api / set up")
    assert ask.text("blame", runs["bus"], "gone", "--at", 1, "--element", "0") == ["never written"]
    assert ask.json("blame", runs["bus"], "gone", "--at", 1, "--element", "0")["write"] is None
    assert ask("blame", runs["recorded"], "field", "--element", "9,9")[0] == 2
    assert ask("blame", runs["ensemble"], "x")[0] == 2
    assert ask.json("blame", runs["ensemble"], "x", "--member", 1)["member"] == 1


def test_verify(ask, runs):
    for path in runs.values():
        found = mmsb.open_run(path).verify()
        assert ask.json("verify", path) == {"ok": True} | found._asdict()
        text = ask.text("verify", path)
        assert text[-1] == "ok"
        assert [int(line.split()[-1].replace(",", "")) for line in text[:-1]] == list(found)


def test_stats(ask, runs):
    found = ask.json("stats", runs["recorded"])
    assert (found["first_epoch"], found["last_epoch"], found["page_bytes"]) == (0, 10, 64)
    assert found["recorded"] == {"every": 1, "members": None, "leaves": 4}
    assert found["by_source"] == {"init": 1, "step": 4}
    assert found["disk_bytes"] >= found["log_bytes"] > 0
    assert ask.json("stats", runs["ensemble"])["recorded"]["members"] == 3
    found = ask.json("stats", runs["bus"])
    assert (found["recorded"], found["commits"]) == (None, 9)
    assert found["by_intent"][HOSTILE] == 1
    assert found["environment"]["jax"] == jax.__version__
    text = "\n".join(ask.text("stats", runs["other"]))
    assert "recorded every 2 steps: 4 arrays" in text
    assert "from 2001-09-0" in text
    assert "checkpoints  none" in text


def test_compact(ask, tmp_path):
    path = recorded(tmp_path / "run", segment_bytes=400)
    before = ask.json("stats", path)
    found = ask.json("compact", path, "--before", -4)
    assert (found["first"], found["merged"]) == (6, 4)
    after = ask.json("stats", path)
    assert 0 < found["freed"] < before["log_bytes"]
    assert after["log_bytes"] < before["log_bytes"]
    assert (after["first_epoch"], after["last_epoch"]) == (6, 10)
    assert ask.text("compact", path, "--before", "7") == ["nothing to merge: the log begins at epoch 6"]
    assert ask.json("show", path, "n", "--at", 8)["parts"][0]["values"] == 8
    other = recorded(tmp_path / "other")
    merged, first = ask.text("compact", other, "--before", 8)
    assert merged.startswith("merged 4 commits and freed ")
    assert first == "the earliest epoch that can be read is 6"
    assert ask("compact", path, "--before", 99)[0] == 2


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("all.arrow", [], {}),
        ("all.parquet", [], {}),
        ("some.dat", ["--format", "parquet", "--leaf", "n", "--from", 2, "--to", 5], {"leaves": "n", "ticks": (2, 5)}),
        ("none.feather", ["--source", "nobody"], {"sources": "nobody"}),
    ],
)
def test_export(ask, runs, tmp_path, name, options, chosen):
    expected = select(runs["recorded"], **chosen).to_arrow().read_all()
    found = ask.json("export", runs["recorded"], "-o", tmp_path / name, *options)
    assert (found["rows"], found["bytes"]) == (len(expected), (tmp_path / name).stat().st_size)
    parquet = found["format"] == "parquet"
    table = pq.read_table(tmp_path / name) if parquet else pa.ipc.open_file(tmp_path / name).read_all()
    assert table.to_pylist() == expected.to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_export_says_what_it_wrote_and_replaces_only_when_it_is_whole(ask, runs, tmp_path, monkeypatch):
    file = tmp_path / "rows.parquet"
    (line,) = ask.text("export", runs["recorded"], "-o", file, "--leaf", "n", "--from", 10)
    assert line == f"wrote 1 row to {file}, {file.stat().st_size:,} bytes"
    whole = file.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", full)
    status, out, err = ask("export", runs["recorded"], "-o", file)
    assert (status, out) == (3, "")
    assert "No space left" in err
    assert file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_export_does_not_write_into_the_run(ask, runs):
    before = (runs["recorded"] / "run.json").read_bytes()
    status, out, err = ask("export", runs["recorded"], "-o", runs["recorded"] / "run.json", "--format", "parquet")
    assert (status, out) == (2, "")
    assert "is inside the run" in err
    assert (runs["recorded"] / "run.json").read_bytes() == before


def test_export_to_a_pipe(runs, capfdbinary):
    from mmsb_jax.cli import main

    assert main(["export", str(runs["bus"]), "-o", "-", "--leaf", "b"]) == 0
    sys.stdout.flush()
    table = pa.ipc.open_stream(capfdbinary.readouterr().out).read_all()
    assert table.column("leaf").to_pylist() == ["b", "b"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-o", "rows.txt"], "doesn't tell a format"),
        (["-o", "."], "doesn't tell a format"),
        (["-o", ".", "--format", "arrow"], "is a directory"),
        (["-o", "-", "--format", "parquet"], "can't be written to a pipe"),
        (["-o", "x.arrow", "--leaf", "feild"], "did you mean \"['field']\"?"),
        (["-o", "x.arrow", "--page", "99"], "this run has the pages 0 to"),
    ],
)
def test_export_refuses(ask, runs, options, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = ask("export", runs["recorded"], *options)
    assert (status, out) == (2, "")
    assert why in err
    assert list(tmp_path.iterdir()) == []
