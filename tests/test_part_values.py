"""What the parts of a run hold at a moment, with figures, against NumPy's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from mmsb_jax._text import printable, ranges, table
from mmsb_jax.page import MemoryStorage
from tests.recordings import START, write_pages, write_recording


def tree(step):
    """Every sort of leaf that has figures, or none."""
    field = np.float32([[1, np.nan, -2], [np.inf, 4, np.nan]]) * np.float32(step)
    return {
        "field": field,
        "half": jnp.asarray([0.5, 2.5 * step], jnp.bfloat16),
        "key": jax.random.key(step),
        "none": np.zeros(0, np.float32),
        "on": np.bool_([True, False, True, True]),
        "wave": np.complex64([1j, np.nan, 3]),
        "whole": np.int32([2**30, -step]),
    }


@pytest.fixture
def run():
    storage = MemoryStorage()
    write_recording(storage, [tree(step) for step in range(1, 5)])
    return mmsb.open_run(storage)


def test_figures_are_those_of_the_values(run):
    parts = {part.name: part for part in run.parts(1)}
    assert list(parts) == [f"['{name}']" for name in tree(2)]
    figures = {name[2:-2]: (part.low, part.mean, part.high, part.nans) for name, part in parts.items()}
    assert figures == {
        "field": (-4.0, np.inf, np.inf, 2),
        "half": (0.5, 2.75, 5.0, 0),
        "key": (None, None, None, 0),
        "none": (None, None, None, 0),
        "on": (False, 0.75, True, 0),
        "wave": (None, None, None, 1),
        "whole": (-2, (2**30 - 2) / 2, 2**30, 0),
    }
    assert [(part.dtype, part.shape) for part in parts.values()][:3] == [
        ("float32", (2, 3)),
        ("bfloat16", (2,)),
        ("key<fry>", ()),
    ]
    np.testing.assert_array_equal(parts["['field']"].value, tree(2)["field"])


def test_a_part_is_found_by_name_page_and_time(run):
    whole = run.parts(3)
    assert whole.epoch == 3
    page = int(whole[0].pages[0])
    for only in ("field", "['field']", page):
        names = [part.name for part in run.parts(3, only=only)]
        assert "['field']" in names
        assert len(names) == (1 if isinstance(only, str) else sum(page in part.pages for part in whole))
    assert run.parts(time=START + 0.5).epoch == 0
    assert run.parts().epoch == run.last
    assert len(run.parts()) == len(run.parts(run.last)[:]) == 7


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"only": "feild"}, PageNotFoundError, "did you mean"),
        ({"only": 99}, PageNotFoundError, "nothing lies on page 99"),
        ({"only": 1.5}, InvalidTypeError, "got a float; pass a leaf's tree path"),
        ({"epoch": 9}, InvalidArgumentError, "this run has 0 to 3"),
        ({"epoch": 1, "time": 2.0}, InvalidArgumentError, "exactly one"),
        ({"member": 0}, InvalidArgumentError, "is no ensemble"),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused(run, asked, error, match):
    with pytest.raises(error, match=match):
        run.parts(**asked)


def test_members_are_stacked_unless_one_is_asked_for(rng):
    storage, members = MemoryStorage(), 3
    trees = [{"x": rng.normal(size=5).astype(np.float32), "k": jax.random.key(i)} for i in range(members)]
    paging = mmsb.Paging.like(trees[0], page_bytes=64)
    write_pages(storage, paging, [np.concatenate([np.asarray(paging.to_pages(each)) for each in trees])] * 2, members=3)
    run = mmsb.open_run(storage)
    key, x = run.parts()
    np.testing.assert_array_equal(x.value, np.stack([each["x"] for each in trees]))
    assert (key.shape, x.shape) == ((3,), (3, 5))
    (one,) = run.parts(only="x", member=1)
    np.testing.assert_array_equal(one.value, trees[1]["x"])
    (same,) = [part for part in run.parts(only=int(one.pages[0])) if part.name == one.name]
    np.testing.assert_array_equal(same.value, one.value)


def test_the_pages_of_a_bus_are_seen_as_what_they_are():
    with mmsb.start(page_bytes=8) as bus:
        bus.update_page(bus.create_page(12, name="wind"), np.float32([1, 2, 4]))
        bus.create_page(5, name="\x1b[31m")
        parts = bus.history().parts()
    assert [(part.dtype, part.shape, part.pages.tolist()) for part in parts] == [
        ("uint8", (12,), [0, 1]),
        ("uint8", (5,), [2]),
    ]
    wind = parts[0].seen_as(np.float32)
    assert (wind.low, wind.high, wind.dtype) == (1.0, 4.0, "float32")
    with pytest.raises(InvalidArgumentError, match="5 bytes, which isn't a multiple of float64"):
        parts[1].seen_as("float64")
    lines = str(parts).splitlines()
    assert lines[0] == "epoch 1"
    assert lines[3].split() == [r"\x1b[31m", "uint8", "5", "0", "0", "0", "2"]
    assert "\x1b" not in str(parts)


def test_a_table_widens_as_it_goes_on():
    rows = [["a", "1"]] * 1500 + [["much longer", "1000000"]]
    lines = list(table(["name", "n"], rows, ["n"]))
    assert lines[0] == "name  n"
    assert lines[1] == "a     1"
    assert lines[-1] == "much longer  1000000"
    assert lines[-2] == "a" + " " * 18 + "1"
    assert list(table(["a", "b"], [])) == ["a  b"]


def test_ranges_and_printable_text():
    assert ranges([]) == ""
    assert ranges([5]) == "5"
    assert ranges([1, 2, 4, 5, 6, 9]) == "1-2, 4-6, 9"
    assert ranges([1, 3, 5], most=2) == "1, 3, …"
    assert printable("naïve 数\t\x9b\u2028") == r"naïve 数\t\x9b\u2028"
