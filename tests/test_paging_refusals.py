"""What pages can't carry, and what doesn't fit a paging, is refused by name; so are hostile descriptions."""

import json
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import Paging
from tests.test_paging import assert_same, ids_of


class Opaque:
    __hash__ = None


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (np.array([object()]), "dtype object"),
        (np.array(["a"]), "dtype <U1"),
        (np.str_("a"), "dtype <U1"),
        (np.datetime64("2020-01-01"), "dtype datetime64"),
        (np.zeros(2, [("a", "i4")]), "dtype "),
        (np.zeros(2, np.longdouble), "dtype "),
        (np.ma.masked_array([1, 2], [True, False]), "masked array"),
        (jnp.zeros(2, jnp.float4_e2m1fn), "dtype float4"),
        ({1, 2}, "neither an array nor hashable"),
        (Opaque(), "neither an array nor hashable"),
        (2**200, "integer too large"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_carried_is_refused_by_name(leaf, text):
    with pytest.raises(mmsb.InvalidTypeError, match=rf"the leaf \['x'\]\[1\] .*{text}"):
        Paging.of({"x": [1, leaf]})


def test_a_mutable_reference_is_refused():
    with pytest.raises(mmsb.InvalidTypeError, match=r"the leaf \['x'\] is a .*Ref.*ref\[\.\.\.\]"):
        Paging.of({"x": jax.new_ref(jnp.zeros(3, "f4"))})


@pytest.mark.parametrize("leaf", [np.float64(1.5), np.zeros(3), np.zeros(2, np.complex128), np.int64(3), 2**40])
def test_64_bits_are_never_cut_silently(leaf):
    with jax.enable_x64(False), pytest.raises(mmsb.InvalidTypeError, match=r"\['x'\].*jax_enable_x64"):
        Paging.of({"x": leaf})
    with jax.enable_x64(True):
        paging, state = Paging.of({"x": leaf})
        assert_same(paging.to_tree(state), {"x": leaf})
    with jax.enable_x64(False), pytest.raises(mmsb.InvalidTypeError, match=r"\['x'\].*jax_enable_x64.*from_pages"):
        paging.to_tree(state)


def test_numbers_in_the_other_byte_order_keep_their_values():
    paging, state = Paging.of(np.array([1.5, -2.0], ">f4"))
    assert_same(paging.to_tree(state), np.array([1.5, -2.0], "<f4"))


def test_a_shape_alone_has_no_contents():
    with pytest.raises(mmsb.InvalidTypeError, match="a shape but no contents"):
        Paging.of({"x": jax.ShapeDtypeStruct((3,), "float32")})


def test_static_structure_that_cannot_be_compared_is_refused():
    class Field(eqx.Module):
        data: Any
        grid: Any = eqx.field(static=True)

    paging = Paging.like(Field(jnp.zeros(3, "f4"), [1, 2]))
    assert paging.matches(Field(jnp.ones(3, "f4"), [1, 2]))
    assert not paging.matches(Field(jnp.ones(3, "f4"), [1, 3]))
    with pytest.warns(UserWarning, match="set as static"):
        one, other = Field(jnp.zeros(3, "f4"), np.zeros(2)), Field(jnp.zeros(3, "f4"), np.zeros(2))
    with pytest.raises(mmsb.InvalidTypeError, match="static structure that can't be compared"):
        Paging.like(one).check(other)


TREE = {"a": np.zeros(3, np.float32), "b": [np.int32(1), "text"], "c": (), "k": jax.random.key(0)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"a": np.zeros(4, np.float32)}, r"\['a'\] is float32\[4\], and float32\[3\]"),
        ({"a": np.zeros(3, np.int32)}, r"\['a'\] is int32\[3\], and float32\[3\]"),
        ({"a": "text"}, r"\['a'\] is 'text', and float32\[3\]"),
        ({"b": [np.float32(1), "text"]}, r"\['b'\]\[0\] is float32\[\], and int32\[\]"),
        ({"b": [np.int32(1), "other"]}, r"\['b'\]\[1\] is 'other', and 'text'"),
        ({"b": [np.int32(1), 2]}, r"\['b'\]\[1\] is 2, and 'text'"),
        ({"b": [np.int32(1)]}, r"\['b'\]\[1\] is missing"),
        ({"b": [np.int32(1), "text", 3]}, r"\['b'\]\[2\] isn't in the tree that was paged"),
        ({"b": (np.int32(1), "text")}, "this tree has the structure"),
        ({"c": None}, "this tree has the structure"),
        ({"k": jax.random.key(0, impl="rbg")}, r"\['k'\] is key<rbg>\[\], and key<threefry2x32>\[\]"),
    ],
)
def test_a_tree_of_another_form_is_refused_by_the_first_leaf_that_differs(change, text):
    paging, state = Paging.of(TREE)
    other = TREE | change
    assert not paging.matches(other)
    for use in (paging.check, paging.words, lambda tree: paging.write(state, tree)):
        with pytest.raises(mmsb.InvalidTypeError, match=text):
            use(other)
    assert paging.matches(TREE | {"a": jnp.ones(3, "f4")})


def test_states_and_pages_of_another_size_are_refused():
    paging, state = Paging.of(jnp.zeros(600, "f4"))
    with pytest.raises(mmsb.InvalidArgumentError, match="a state of 4 pages of 256 words; this tree lies on 3 pages"):
        paging.to_tree(mmsb.State.create(4))
    with pytest.raises(mmsb.InvalidTypeError, match="where a State is needed"):
        paging.write(None, jnp.zeros(600, "f4"))
    for pages in (ids_of(state)[:2], ids_of(state).astype(np.int32), [1]):
        with pytest.raises(mmsb.InvalidArgumentError, match=r"needed are uint32\[3, 256\]"):
            paging.from_pages(pages)
    with pytest.raises(mmsb.InvalidArgumentError, match="page_bytes=6"):
        Paging.of(jnp.zeros(3, "f4"), page_bytes=6)


# Descriptions.


def described() -> dict[str, Any]:
    tree = {"a": np.zeros(600, np.float32), "b": [1, ("text", None)], "k": jax.random.key(0)}
    return json.loads(json.dumps(Paging.like(tree).describe()))


def changed(path, value):
    """The description with one thing other than it was."""
    description = described()
    *nodes, last = path
    node = description
    for step in nodes:
        node = node[step]
    if value is None and isinstance(node, dict):
        del node[last]
    else:
        node[last] = value
    return description


DEEP: Any = 0
for _ in range(500):
    DEEP = {"list": [DEEP]}


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["page_words"], 0, "0 isn't a whole number from 1 on"),
        (["page_words"], 2**50, "too many pages"),
        (["page_words"], None, "page_words"),
        (["num_pages"], True, "True isn't a whole number"),
        (["num_pages"], 2**31 - 1, "too many pages"),
        (["num_pages"], 3, "ends behind the last page"),
        (["leaves"], {}, "isn't a list"),
        (["leaves"], [], "must name its 0 leaves"),
        (["leaves", 0], 3, "not subscriptable"),
        (["leaves", 0, "path"], 3, "3 isn't text"),
        (["leaves", 0, "path"], "['k']", "two leaves have the same path"),
        (["leaves", 0, "dtype"], "object", "no dtype is called 'object'"),
        (["leaves", 0, "shape"], [-1], "-1 isn't a whole number"),
        (["leaves", 0, "shape"], [1.5], "1.5 isn't a whole number"),
        (["leaves", 0, "shape"], [2**62, 2**62], "too large"),
        (["leaves", 0, "shape"], [769], "overlap|behind the last page"),
        (["leaves", 0, "shape"], [1] * 33, "more dimensions"),
        (["leaves", 0, "kind"], "object", "no kind is called"),
        (["leaves", 0, "page"], -1, "-1 isn't a whole number"),
        (["leaves", 0, "page"], 2, "overlap"),
        (["leaves", 0, "page"], 10**30, "behind the last page"),
        (["leaves", 0, "offset"], 256, "begins behind the end"),
        (["leaves", 1, "page"], 1, "overlap"),
        (["leaves", 2, "offset"], 0, "overlap"),
        (["leaves", 2, "impl"], "os.system", "os.system"),
        (["leaves", 2, "impl"], None, "impl"),
        (["leaves", 2, "dtype"], "float32", "the data of keys is uint32"),
        (["tree"], {"eval": "1"}, "a node has the fields"),
        (["tree"], {"list": [0, 1, 2], "more": 1}, "a node has the fields"),
        (["tree"], {"list": [0, 2, 1]}, "once each, in order"),
        (["tree"], {"list": [0, 1]}, "once each, in order"),
        (["tree"], {"list": [0, 1, 1]}, "once each, in order"),
        (["tree"], {"list": [0, True, 2]}, "True isn't a whole number"),
        (["tree"], {"dict": [["b", 0], ["a", 1], ["c", 2]]}, "once each, in order"),
        (["tree"], {"dict": [["a", 0], ["a", 1], ["c", 2]]}, "a key occurs twice"),
        (["tree"], {"dict": [["a", 0], [1, 1], ["c", 2]]}, "sorting"),
        (["tree"], {"dict": [["a", 0], [[1], 1], ["c", 2]]}, "can't be a key"),
        (["tree"], {"node": 3, "children": []}, "3 isn't text"),
        (["tree"], {"static": 3}, "3 isn't text"),
        (["tree"], DEEP, "too deep"),
    ],
)
def test_a_hostile_description_is_refused(path, value, text):
    with pytest.raises(mmsb.InvalidArgumentError, match=f"this isn't the description of a paging: .*({text})"):
        Paging.from_description(changed(path, value))
    Paging.from_description(described())  # the one it was made from is good


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=3),
    lambda node: st.lists(node, max_size=3) | st.dictionaries(st.sampled_from(["list", "dict", "tuple"]), node),
    max_leaves=5,
)
PLACES = [[key] for key in described()] + [["leaves", i, key] for i in range(3) for key in described()["leaves"][i]]


@given(path=st.sampled_from(PLACES), value=junk)
def test_junk_in_a_description_is_refused_or_harmless(path, value):
    try:
        paging = Paging.from_description(changed(path, value))
    except mmsb.InvalidArgumentError:
        return
    if paging.num_pages * paging.page_words < 2**20:  # pages to spare do no harm
        pages = np.zeros((paging.num_pages, paging.page_words), np.uint32)
        assert_same(paging.from_pages(pages), paging.from_pages(pages))


@pytest.mark.parametrize("junk", [None, 3, "text", [], {}, {"page_words": 4}])
def test_what_is_no_description_is_refused(junk):
    with pytest.raises(mmsb.InvalidArgumentError, match="this isn't the description of a paging"):
        Paging.from_description(junk)


def test_a_tree_too_deep_to_describe_is_refused():
    tree = jnp.zeros(1, "f4")
    for _ in range(300):
        tree = [tree]
    paging, state = Paging.of(tree)
    assert_same(paging.to_tree(state), tree)
    with pytest.raises(mmsb.InvalidArgumentError, match="more than 200 nodes deep"):
        paging.describe()
