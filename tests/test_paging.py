"""Any pytree on pages and back, bit for bit: random trees, every dtype, what is refused, and the layout's laws."""

import collections
import contextlib
import json
from typing import Any

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import Paging
from mmsb_jax.physical._leaf import CARRIED

WIDE = ("int64", "uint64", "float64", "complex128")
NARROW = sorted(set(CARRIED) - set(WIDE))
SUB_BYTE = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}

PULL = f"<{jnp.tanh.__module__}.{jnp.tanh.__qualname__}>"

Point = collections.namedtuple("Point", "y x")


class Body(eqx.Module):
    mass: Any
    where: Any
    name: str = eqx.field(static=True, default="body")
    pull: Any = jnp.tanh


def random_array(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Any bits that the dtype can have, so NaNs with payloads, -0.0, infinities and denormals too."""
    dtype = CARRIED[name]
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if name in SUB_BYTE:
        low = -(2 ** (SUB_BYTE[name] - 1)) if name.startswith("int") else 0
        return rng.integers(low, low + 2 ** SUB_BYTE[name], shape).astype(np.int8).astype(dtype)
    raw = rng.bytes(int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(shape).copy()


def random_tree(rng: np.random.Generator, depth: int = 0) -> Any:
    kind = rng.integers(4, 8) if depth == 0 else rng.integers(0, 10)
    if depth > 2 or kind < 4:
        return random_leaf(rng)
    children = [random_tree(rng, depth + 1) for _ in range(rng.integers(0, 4))]
    if kind == 8:
        return Point(random_tree(rng, depth + 1), random_tree(rng, depth + 1))
    if kind == 9:
        return Body(random_tree(rng, depth + 1), children)
    make = [list, tuple, lambda c: dict(zip("zyxw", c, strict=False)), lambda c: dict(enumerate(c))][kind - 4]
    return make(children)


def random_leaf(rng: np.random.Generator) -> Any:
    kind = rng.integers(8)
    if kind == 0:
        return [None, 3, -2.5, True, 1 - 2j, "text", jnp.sin, np.float32(0.1)][rng.integers(8)]
    if kind == 1:
        keys = jax.random.key(rng.integers(2**31), impl=str(rng.choice(["threefry2x32", "rbg"])))
        return jax.random.split(keys, tuple(rng.integers(0, 3, rng.integers(3)))) if rng.integers(2) else keys
    shape = [(), (0,), (3,), (9,), (2, 5), (4, 0, 2), (2, 3, 7)][rng.integers(7)]
    array = random_array(rng, str(rng.choice(NARROW)), shape)
    return jnp.asarray(array) if rng.integers(2) else array


def bits(leaf: Any) -> Any:
    """A leaf as something that == compares bit for bit, dtype and shape included."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "key", str(jax.random.key_impl(leaf)), bits(jax.random.key_data(leaf))
    if isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
        leaf = jnp.asarray(leaf)
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return leaf.dtype.name, leaf.shape, np.asarray(leaf).tobytes()
    return leaf


def assert_same(one: Any, other: Any) -> None:
    leaves, treedef = jax.tree_util.tree_flatten_with_path(one)
    others, other_def = jax.tree_util.tree_flatten_with_path(other)
    assert treedef == other_def
    for (path, leaf), (_, there) in zip(leaves, others, strict=True):
        assert bits(leaf) == bits(there), path


def ids_of(state: mmsb.State) -> np.ndarray:
    return np.asarray(state.view())


# Round trips.


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), page_bytes=st.sampled_from([4, 12, 64, 1024]))
def test_a_random_tree_comes_back_bit_for_bit(seed, page_bytes):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng)
    paging, state = Paging.of(tree, page_bytes=page_bytes)
    assert_same(paging.to_tree(state), tree)
    assert_same(paging.from_pages(ids_of(state)), tree)
    assert Paging.like(tree, page_bytes=page_bytes) == paging
    assert hash(Paging.like(tree, page_bytes=page_bytes)) == hash(paging)
    assert not any(getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(paging.to_tree(state)))


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_inside_jit(seed):
    tree = random_tree(np.random.default_rng(seed))
    paging, state = Paging.of(tree, page_bytes=32)
    arrays, rest = eqx.partition(tree, lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic))

    @eqx.filter_jit
    def round_trip(arrays, state):
        written = paging.write(state, eqx.combine(arrays, rest))
        return paging.to_tree(written), paging.tree(paging.words(eqx.combine(arrays, rest)))

    blank = eqx.tree_at(lambda s: s.pages, state, jnp.full_like(state.pages, 7))
    for back in round_trip(arrays, blank):
        assert_same(back, tree)


@pytest.mark.parametrize("name", CARRIED)
def test_every_dtype_keeps_every_bit(rng, name):
    with jax.enable_x64(True) if name in WIDE else contextlib.nullcontext():
        tree = [jnp.asarray(random_array(rng, name, shape)) for shape in ((), (0, 2), (129,), (5, 7))]
        assert [leaf.dtype.name for leaf in tree] == [name] * 4
        paging, state = Paging.of(tree, page_bytes=64)
        assert_same(jax.jit(paging.to_tree)(state), tree)
        assert_same(jax.jit(lambda tree: paging.tree(paging.words(tree)))(tree), tree)
    assert_same(paging.from_pages(ids_of(state)), tree)  # on the host the setting makes no difference


def test_words_are_little_endian_and_the_low_word_of_64_bits_is_first():
    with jax.enable_x64(True):
        tree = [jnp.uint8([1, 2, 3, 4, 5]), jnp.uint64([0x1122334455667788]), jnp.complex64([1 + 2j]), jnp.bool([0, 1])]
        words = [word.tolist() for word in Paging.like(tree).words(tree)]
    one, two = np.float32([1, 2]).view(np.uint32).tolist()
    assert words == [[0x04030201, 5], [0x55667788, 0x11223344], [one, two], [0x0100]]


def test_models_optimisers_and_keys(rng):
    model = eqx.nn.MLP(3, 2, 8, 2, key=jax.random.key(0))
    point = jnp.ones(3, model.layers[0].weight.dtype)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    tree = {
        "model": model,
        "optimiser": optimiser.init(eqx.filter(model, eqx.is_array)),
        "keys": jax.random.split(jax.random.key(1), (2, 3)),
        "rbg": jax.random.key(3, impl="rbg"),
        "ordered": collections.OrderedDict(b=1, a=jnp.zeros((0, 3), "f4")),
        "step": 0,
        "nothing": None,
    }
    paging, state = Paging.of(tree)
    back = paging.to_tree(state)
    assert_same(back, tree)
    assert_same(back["model"](point), model(point))
    assert_same(jax.random.normal(back["rbg"], (3,)), jax.random.normal(tree["rbg"], (3,)))
    assert paging.leaf("['keys']").kind == "key"
    assert paging.leaf("['keys']").words == 2 * 3 * 2


def test_under_vmap_every_member_has_pages_of_its_own(rng):
    members = {"x": jnp.asarray(random_array(rng, "float32", (4, 50))), "n": jnp.arange(4)}
    paging = Paging.like(jax.tree.map(lambda x: x[0], members), page_bytes=64)
    pages = jax.vmap(paging.to_pages)(members)
    assert pages.shape == (4, paging.num_pages, 16)
    for member in range(4):
        assert_same(paging.from_pages(np.asarray(pages[member])), jax.tree.map(lambda x, m=member: x[m], members))


def test_a_bare_leaf_and_trees_without_data():
    paging, state = Paging.of(jnp.arange(3))
    assert_same(paging.to_tree(state), jnp.arange(3))
    assert (paging.leaves[0].path, paging.pages_of("").tolist()) == ("", [0])
    for tree in (None, {}, [(), None], "only text"):
        paging, state = Paging.of(tree)
        assert (paging.to_tree(state), paging.leaves, paging.num_pages) == (tree, (), 1)
        assert paging.pages_of("").tolist() == []


def test_the_state_shares_no_memory_with_numpy_leaves():
    array = np.zeros(256, np.uint32)
    paging, state = Paging.of(array)
    array[:] = 7
    assert not ids_of(state).any()
    assert not np.asarray(paging.to_tree(state)).any()


# Writing.


FORM = {
    "a": ("bool", (9,)),
    "b": ("bfloat16", (0,)),
    "c": ("float32", (3, 15)),
    "d": ("int8", (19,)),
    "e": ("int16", ()),
}
write_jit = jax.jit(lambda paging, state, tree: paging.write(state, tree), static_argnums=0)


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(list(FORM)))
def test_write_stamps_exactly_the_pages_that_differ(seed, name):
    rng = np.random.default_rng(seed)
    tree = {key: random_array(rng, *form) for key, form in FORM.items()}
    paging, state = Paging.of(tree, page_bytes=32)
    slot = rng.permutation(paging.num_pages).astype(np.int32)
    rows = np.empty_like(ids_of(state))
    rows[slot] = ids_of(state)
    epoch = rng.integers(0, 4, paging.num_pages, np.uint32)
    state = mmsb.State(jnp.asarray(rows), jnp.asarray(slot), jnp.asarray(epoch), jnp.uint32(9))
    other = tree | {name: random_array(rng, *FORM[name])}
    after = write_jit(paging, state, other)
    assert_same(paging.from_pages(ids_of(after)), other)
    changed = (ids_of(state) != ids_of(after)).any(axis=1)
    np.testing.assert_array_equal(after.epoch, np.where(changed, 9, epoch))
    assert set(np.flatnonzero(changed)) <= set(paging.pages_of(f"['{name}']").tolist())
    assert after.tick == 9


def test_nothing_recompiles_for_another_tree_of_the_same_form(rng):
    def write(paging, state, tree):
        return paging.write(state.advance(), tree)

    compiled = jax.jit(chex.assert_max_traces(write, n=1), static_argnums=0)
    for _ in range(3):
        tree = {"x": random_array(rng, "float32", (300,)), "n": int(rng.integers(9))}
        paging, state = Paging.of(tree)
        compiled(paging, state, jax.tree.map(jnp.asarray, tree))
    paging, state = Paging.of({"x": np.zeros(301, np.float32), "n": 1})
    with pytest.raises(AssertionError, match="traced > 1 times"):  # the check can fail
        compiled(paging, state, {"x": jnp.zeros(301, "f4"), "n": jnp.int32(1)})


def test_words_of_four_byte_types_cost_nothing():
    def temporary(dtype):
        tree = {"x": jnp.zeros((100, 100), dtype), "n": jnp.zeros(5000, jnp.int32)}
        paging = Paging.like(tree)
        step = jax.jit(lambda tree: paging.tree([words + jnp.uint32(1) for words in paging.words(tree)]))
        return step.lower(tree).compile().memory_analysis().temp_size_in_bytes

    assert temporary(jnp.float32) == 0
    assert temporary(jnp.complex64) > 0  # the check can fail


def test_write_in_place_when_the_state_is_donated():
    paging, state = Paging.of(jnp.zeros(2**18, "f4"))
    step = jax.jit(lambda state, tree: paging.write(state.advance(), tree), donate_argnums=0)
    memory = step.lower(state, jnp.zeros(2**18, "f4")).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 2**20
    assert memory.temp_size_in_bytes < 2.1 * 2**20


# The layout.


@settings(max_examples=300)
@given(sizes=st.lists(st.integers(0, 40), max_size=30), page_words=st.integers(1, 16))
def test_laws_of_the_layout(sizes, page_words):
    paging = Paging.like([jax.ShapeDtypeStruct((size,), "float32") for size in sizes], page_bytes=4 * page_words)
    owner = np.full((paging.num_pages, page_words), -1)
    for i, leaf in enumerate(paging.leaves):
        assert leaf.words == sizes[i]
        start = leaf.first_page * page_words + leaf.offset
        taken = owner.reshape(-1)[start : start + leaf.words]
        assert len(taken) == leaf.words, "it ends behind the last page"
        assert (taken == -1).all(), "two leaves overlap"
        taken[:] = i
    for i, leaf in enumerate(paging.leaves):
        rows = np.flatnonzero((owner == i).any(axis=1))
        assert rows.tolist() == list(leaf.pages) == paging.pages_of(f"[{i}]").tolist()
        if 2 * leaf.words >= page_words:
            assert set(owner[rows].ravel()) <= {i, -1}, "a large leaf shares a page"
            assert leaf.offset == 0
        else:
            assert len(rows) <= 1, "a small leaf straddles two pages"
    assert (owner >= 0).any(axis=1).all() or not sum(sizes), "a page holds nothing"
    assert [leaf for group in paging.groups for leaf in group if not leaf.words] == []
    assert [set(owner[group[0].pages].ravel()) - {-1} for group in paging.groups] == [
        {paging.leaves.index(leaf) for leaf in group} for group in paging.groups
    ]


def test_leaves_are_found_by_path_and_by_node():
    body = Body(jnp.zeros(2, "f4"), [jnp.zeros(600, "f4"), jnp.zeros(3, "f4")])
    paging = Paging.like({"a": body, "ab": jnp.zeros(300, "f4"), "n": {7: jnp.zeros(1, "f4")}})
    assert [leaf.path for leaf in paging.leaves] == [
        "['a'].mass",
        "['a'].where[0]",
        "['a'].where[1]",
        "['ab']",
        "['n'][7]",
    ]
    assert paging.leaf("['a'].where[0]").pages == range(1, 4)
    assert paging.pages_of("['a'].where").tolist() == [0, 1, 2, 3]
    assert paging.pages_of("['ab']").tolist() == [4, 5]
    assert paging.pages_of("").tolist() == [0, 1, 2, 3, 4, 5]
    assert paging.pages_of("['n']").dtype == np.int32
    for path, text in (
        ("['a'].were[0]", r"did you mean .*'a'\].where\[0\]"),
        ("['a'].wher", "no leaf has"),
        (3, "path 3"),
    ):
        for look in (paging.leaf, paging.pages_of):
            with pytest.raises(mmsb.PageNotFoundError, match=text):
                look(path)


# Descriptions.


def plain(tree: Any) -> Any:
    """What a tree is without its code: nodes of other types by the names of their fields, static leaves as text."""
    match tree:
        case Point(y=y, x=x):
            return collections.OrderedDict(y=plain(y), x=plain(x))
        case Body():
            fields = [(name, getattr(tree, name)) for name in ("mass", "where", "pull")]
            return collections.OrderedDict((name, plain(value)) for name, value in fields)
        case dict():
            return {key: plain(value) for key, value in tree.items()}
        case list() | tuple():
            return type(tree)(plain(value) for value in tree)
    if callable(tree):
        return f"<{tree.__module__}.{tree.__qualname__}>"
    return tree


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_description_carries_plain_structure_exactly_and_the_rest_by_name(seed):
    tree = random_tree(np.random.default_rng(seed))
    paging, state = Paging.of(tree, page_bytes=64)
    text = json.dumps(paging.describe(), allow_nan=False)
    there = Paging.from_description(json.loads(text))
    assert there.leaves == paging.leaves
    assert_same(there.from_pages(ids_of(state)), plain(tree))
    again = Paging.from_description(json.loads(json.dumps(there.describe())))
    assert again == there
    assert json.dumps(Paging.like(tree, page_bytes=64).describe()) == text


def test_a_description_of_a_module_can_be_read_without_its_class():
    description = Paging.like(Point(Body(jnp.zeros(3, "f4"), np.int32(1)), jnp.int8(1))).describe()
    assert description == {
        "page_words": 256,
        "num_pages": 1,
        "leaves": [
            {"path": ".y.mass", "dtype": "float32", "shape": [3], "kind": "array", "page": 0, "offset": 0},
            {"path": ".y.where", "dtype": "int32", "shape": [], "kind": "array", "page": 0, "offset": 3},
            {"path": ".x", "dtype": "int8", "shape": [], "kind": "array", "page": 0, "offset": 4},
        ],
        "tree": {
            "node": f"{__name__}.Point",
            "children": [
                [
                    "y",
                    {"node": f"{__name__}.Body", "children": [["mass", 0], ["where", 1], ["pull", {"static": PULL}]]},
                ],
                ["x", 2],
            ],
        },
    }
