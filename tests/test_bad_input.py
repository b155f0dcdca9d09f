"""Bad input of every public call: the named error, with a text that helps, and nothing has changed.

Each row runs twice: here, under the type-checking hook of the tests, and in a new interpreter without it, which is what
a user sees. The hook may be faster than the check, with a `TypeError` of its own.
"""

import json
import traceback
from pathlib import Path

import pytest

import mmsb_jax as mmsb
from mmsb_jax import (
    PageNotFoundError,
)
from tests import bad_input_bus, bad_input_core, bad_input_reactions
from tests.bad_input import Desk, Row

ROOT = Path(__file__).parent.parent
ROWS = bad_input_bus.ROWS | bad_input_core.ROWS | bad_input_reactions.ROWS


def fault(desk: Desk, row: Row, *, hooked: bool) -> str | None:
    """What is wrong with how a row ends, or None."""
    before = desk.everything()
    try:
        result = row.call(desk)
    except Exception as error:
        expected = (row.error, TypeError) if hooked else row.error
        if not isinstance(error, expected):
            return "".join(traceback.format_exception(error))
        if isinstance(error, row.error) and row.text not in str(error):
            return f"the text lacks {row.text!r}: {error}"
    else:
        return f"nothing was raised; it returned {result!r}"
    after = desk.everything()
    if changed := [key for key in before if before[key] != after[key]]:
        return f"it left a trace in {changed}: {[(before[key], after[key]) for key in changed]}"
    try:
        desk.work()
    except Exception as error:
        return "afterwards the bus doesn't work: " + "".join(traceback.format_exception(error))
    return None


def run(folder: str) -> None:
    """Print the faults of all rows as JSON. Runs in an interpreter of its own."""
    desk = Desk(Path(folder))
    found = {name: problem for name, row in ROWS.items() if (problem := fault(desk, row, hooked=False))}
    print(json.dumps(found))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.bus.stop()


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(desk, name):
    assert (problem := fault(desk, ROWS[name], hooked=True)) is None, problem


def test_bad_input_as_a_user_sees_it(run_python, tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tests import test_bad_input as t; t.run(sys.argv[2])"
    folder = tmp_path / "desk"
    folder.mkdir()
    found = json.loads(run_python(code, str(ROOT), str(folder)).splitlines()[-1])
    assert not found, "\n".join(f"{name}: {problem}" for name, problem in found.items())


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("BusClosedError", ValueError),
        ("CapacityError", OverflowError),
        ("CorruptLogError", ValueError),
        ("GraphCycleError", ValueError),
        ("InvalidArgumentError", ValueError),
        ("InvalidDeltaError", ValueError),
        ("InvalidTypeError", TypeError),
        ("LogFailedError", OSError),
        ("LogLockedError", BlockingIOError),
        ("LogNotFoundError", FileNotFoundError),
        ("NotInTransactionError", AttributeError),
        ("PageNotFoundError", KeyError),
        ("ReplayDivergenceError", RuntimeError),
        ("SemiringLawError", ValueError),
        ("TransactionConflictError", RuntimeError),
        ("TransactionOverError", ValueError),
    ],
)
def test_errors_are_also_what_python_users_catch(name, error):
    assert issubclass(getattr(mmsb, name), mmsb.MMSBError)
    assert issubclass(getattr(mmsb, name), error)


def test_the_check_notices(desk):
    """Canaries: rows that must be found faulty."""
    state = desk.state
    canaries = {
        "nothing was raised": Row(lambda d: d.bus.page("a"), ValueError, ""),
        "ZeroDivisionError": Row(lambda d: 1 / 0, ValueError, ""),
        "the text lacks": Row(lambda d: d.bus.page("nope"), PageNotFoundError, "never said"),
        "left a trace in ['stats', 'files']": Row(lambda d: d.bus.page(d.bus.source_id("new") + 99), KeyError, ""),
    }
    for text, row in canaries.items():
        assert text in fault(desk, row, hooked=False)
    assert state is desk.state
