"""The benchmarks run, in a tiny version, and the harness tells right from wrong."""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _harness, spmv
from benchmarks.__main__ import MODULES, cases, main, table
from benchmarks._harness import BenchmarkError, Case, Peer, Program, compiled, digest, measure

EVERY_CASE = [case for module in MODULES for case in cases(module, [module])]


def _equal(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(ours, theirs)


def case(*peers: Peer, **more: Any) -> Case:
    return Case("toy", lambda quick: np.arange(3.0), lambda x: Program(lambda: x + 1), peers, **more)


# One product of each graph, each semiring, and each number of features: the others are the same code.
SOME_CASES = [
    *(case for case in EVERY_CASE if not case.name.startswith("spmv")),
    *spmv.CASES[:25:6],
    *spmv.CASES[25:45:11],
    *spmv.CASES[45:47],
]


@pytest.mark.parametrize("chosen", SOME_CASES, ids=lambda chosen: chosen.name)
def test_quick_version_runs_and_agrees(chosen: Case):
    row = measure(chosen, quick=True, rounds=1)
    assert row.ok
    assert len(row.digest) == 12
    assert len(row.ours.runs) == 1
    assert len(row.peers) + len(row.missing) == len(chosen.peers)


def test_names_are_unique_and_begin_with_their_module():
    assert len({case.name for case in EVERY_CASE}) == len(EVERY_CASE)
    for module in MODULES:
        assert all(case.name.startswith(module) for case in importlib.import_module(f"benchmarks.{module}").CASES)


def test_main_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "deep" / "out.json"
    assert main(["spmv/uniform/min_plus", "--quick", "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "spmv/uniform/min_plus" in shown
    assert "jaxlib=" in shown
    written = json.loads(path.read_text())
    assert {"commit", "dirty", "versions", "cpu", "cores", "xla_flags"} <= written["manifest"].keys()
    assert written["rows"][0]["ours"]["compile_s"] > 0
    assert len(written["rows"][0]["ours"]["runs"]) == 2


def test_unknown_name(capsys: pytest.CaptureFixture[str]):
    assert main(["spnv", "--quick"]) == 2
    assert "nothing is called spnv; modules:" in capsys.readouterr().err


def test_other_result_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    wrong = case(Peer("liar", lambda x: Program(lambda: x + 2), _equal))
    with pytest.raises(BenchmarkError, match="toy: liar gives another result"):
        measure(wrong, quick=True, rounds=1)
    monkeypatch.setattr(spmv, "CASES", (wrong,))
    assert main(["spmv", "--quick"]) == 2
    assert "liar gives another result" in capsys.readouterr().err


def test_missing_peer_is_named_when_quick_and_an_error_otherwise():
    absent = case(Peer("absent", lambda x: Program(lambda: x + 1), _equal, needs="no_such_module"))
    row = measure(absent, quick=True, rounds=1)
    assert row.missing == ["absent"]
    assert "missing" in table([row])
    with pytest.raises(BenchmarkError, match=r"which needs no_such_module.*pip install 'mmsb-jax\[bench\]'"):
        measure(absent, quick=False, rounds=1)


def test_targets_are_marked_and_decide_the_exit_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    same = Peer("same", lambda x: Program(lambda: x + 1), _equal, target=1e-9)
    row = measure(case(same), quick=False, rounds=3)
    assert row.ok
    assert "✓" in table([row])
    missed = measure(case(Peer("fast", same.prepare, _equal, target=1e9)), quick=False, rounds=1)
    assert not missed.ok
    assert "✗" in table([missed])
    fast = Peer("fast", same.prepare, _equal, target=1e9)
    assert measure(case(same, dataclasses.replace(fast, instead=True)), quick=False, rounds=1).ok
    assert measure(case(fast, dataclasses.replace(same, instead=True)), quick=False, rounds=1).ok
    assert not measure(case(fast, dataclasses.replace(fast, instead=True)), quick=False, rounds=1).ok
    assert not measure(case(fast, same, dataclasses.replace(same, instead=True)), quick=False, rounds=1).ok
    slow = case(items=len, unit="things", floor=1e18)
    assert not measure(slow, quick=False, rounds=1).ok
    assert measure(slow, quick=True, rounds=1).ok
    monkeypatch.setattr(spmv, "CASES", (slow,))
    assert main(["spmv", "--json", str(tmp_path / "out.json")]) == 1


def test_programs_take_turns():
    order = []
    peer = Peer("b", lambda x: Program(lambda: order.append("b")), lambda ours, theirs: None)
    measure(Case("toy", lambda quick: 0, lambda x: Program(lambda: order.append("a")), (peer,)), quick=True, rounds=3)
    assert "".join(order) == "ab" * 4


def test_compiled_says_what_it_cost():
    program = compiled(lambda x: x * jnp.float32(2), jnp.ones(1000, jnp.float32))
    assert program.lower_s is not None
    assert program.compile_s is not None
    assert program.peak_bytes is not None
    assert program.peak_bytes >= 8000
    np.testing.assert_array_equal(program.run(), np.full(1000, 2, np.float32))


def test_digest_sees_every_bit():
    assert digest(np.float32([0.0])) != digest(np.float32([-0.0]))
    assert digest((np.arange(3), np.arange(2))) == digest([np.arange(3), np.arange(2)])


def test_device_slug_is_a_folder_name():
    slug = _harness.device_slug()
    assert slug.startswith("cpu-")
    assert Path(slug).name == slug
