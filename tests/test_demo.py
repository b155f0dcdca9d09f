"""The main job: the board against a plain NumPy recomputation, the crash, and every way to fail."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmsb_jax as mmsb
from demo import __main__ as main
from demo import _board, _flights, _report
from demo._cascades import worst_cascades
from demo._stream import stream, tick_at

ROOT = Path(__file__).parent.parent
HOURS = 24 * 9


@pytest.fixture(scope="module")
def year():
    return _flights.load()


@pytest.fixture(scope="module")
def streamed(year, tmp_path_factory):
    """The first days of the year, streamed and closed."""
    path = tmp_path_factory.mktemp("demo") / "year.mmsb"
    bus, layout = _board.open_board(str(path), year)
    with bus:
        result = stream(bus, year, layout, hours=HOURS)
        return path, layout, result, bus.digest(), bus.graph


def oracle(year, hours):
    """Expected departure and delay of every flight once the first hours are known, one flight after another."""
    known = year.observed_hour < hours
    before, after, minutes = year.rotations()
    previous = {int(b): (int(a), int(m)) for a, b, m in zip(before, after, minutes, strict=True)}
    expected = np.zeros(len(year), np.int64)
    delay = np.zeros(len(year), np.int64)
    for flight in range(len(year)):
        ready = expected[previous[flight][0]] + previous[flight][1] if flight in previous else -(10**9)
        gone = known[flight] and not year.cancelled[flight]
        expected[flight] = year.departed[flight] if gone else max(year.scheduled[flight], ready)
        if not (known[flight] and year.cancelled[flight]):
            delay[flight] = expected[flight] - year.scheduled[flight]
    return known, expected, delay


def test_the_data_is_what_the_readme_says(year, streamed):
    graph = streamed[4]
    assert (len(year), year.aircraft) == (336_776, 4_037)
    assert graph.num_pages == 368_896
    assert graph.num_edges == len(year.rotations()[0]) + 2 * len(year) == 832_119


def test_the_board_equals_recomputing_it_from_scratch(year, streamed):
    path, layout, *_ = streamed
    pages = np.asarray(mmsb.replay(path).view(np.int32))
    known, expected, delay = oracle(year, HOURS)
    flights = pages[layout.flights]
    np.testing.assert_array_equal(flights[:, _board.EXPECTED], expected)
    np.testing.assert_array_equal(flights[:, _board.DELAY], delay)

    gone, cancelled = known & ~year.cancelled, known & year.cancelled
    for group, size in (
        (layout.hours[year.origin, year.scheduled // 60], layout.hours),
        (layout.days[year.carrier, year.scheduled // 1440], layout.days),
    ):
        columns = [np.ones(len(year), np.int64), gone, cancelled, np.maximum(delay, 0), delay >= 15]
        for word, values in enumerate(columns):
            sums = np.bincount(group, weights=values, minlength=layout.capacity)[size]
            np.testing.assert_array_equal(pages[size, word], sums)
        worst = np.zeros(layout.capacity, np.int64)
        np.maximum.at(worst, group, delay)
        np.testing.assert_array_equal(pages[size, _board.WORST], worst[size])


def test_replay_stops_at_any_hour(year, streamed):
    path, layout, *_ = streamed
    state = mmsb.replay(path, tick=tick_at(100))
    pages = np.asarray(state.view(np.int32))
    assert int(state.tick) == tick_at(100)
    np.testing.assert_array_equal(pages[layout.flights, _board.EXPECTED], oracle(year, 100)[1])


def test_cascades_follow_an_aircraft(year, streamed):
    cascades = worst_cascades(str(streamed[0]), year)
    before, after, _ = year.rotations()
    following = dict(zip(before.tolist(), after.tolist(), strict=True))
    assert len(cascades) == 10
    assert [c.minutes for c in cascades] == sorted((c.minutes for c in cascades), reverse=True)
    for cascade in cascades:
        chain = [cascade.root, *(leg.flight for leg in cascade.pushed)]
        assert [following[flight] for flight in chain[:-1]] == chain[1:]
        assert all(leg.minutes > 0 for leg in cascade.pushed)
    assert year.label(cascades[0].root) in _report.describe(cascades, year)


def test_a_replay_that_differs_is_noticed(streamed):
    path, _, result, digest, _ = streamed
    main._check_replay(path, digest, result)
    with pytest.raises(main.DemoError, match="replay gave other bits"):
        main._check_replay(path, (digest[0] ^ 1, digest[1]), result)


def test_failures_are_told_and_set_the_exit_status(monkeypatch, capsys, tmp_path):
    def broken(arguments):
        raise main.DemoError("these differ")

    with monkeypatch.context() as patch:
        patch.setattr(main, "_run", broken)
        assert main.main([]) == 1
    assert "demo failed: these differ" in capsys.readouterr().err

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main.main(["--out", str(tmp_path / "x")]) == 1
    assert "make demo" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    assert main.main(["--out", str(tmp_path)]) == 1
    assert "is no run" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_whole_demo_with_a_crash(tmp_path):
    picture = tmp_path / "report.png"
    command = [sys.executable, "-m", "demo", "--crash", "--hours", "300"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "year.mmsb"), "--report", str(picture)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("gives the same bits, here and in a new process", "SIGKILL after tick", "The board as it stood"):
        assert line in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000
