"""To Orbax and back, bit for bit; and what Orbax itself writes and reads."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError, InvalidTypeError
from mmsb_jax.page import from_orbax, open_checkpoint, to_orbax, write_checkpoint
from tests.checkpoint_runs import small_run

DTYPES = [
    "bool",
    "int8",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


def random_bits(dtype):
    """Every pattern may come, NaN payloads and subnormal numbers included."""
    size = np.dtype(dtype).itemsize
    bits = np.random.default_rng(5).integers(0, 2 if dtype == "bool" else 256, 12 * size, np.uint8)
    return bits.view(dtype).reshape(3, 4)


def same(found, expected):
    if isinstance(expected, jax.Array) and jnp.issubdtype(expected.dtype, jax.dtypes.prng_key):
        assert found.dtype == expected.dtype
        found, expected = jax.random.key_data(found), jax.random.key_data(expected)
    one, other = np.asarray(found), np.asarray(expected)
    assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def everything():
    floats = jnp.asarray(np.random.default_rng(6).integers(0, 2**16, 9, np.uint16))
    return {
        "numpy": {dtype: random_bits(dtype) for dtype in DTYPES},
        "jax": [jnp.asarray(random_bits(dtype)) for dtype in ("bool", "int8", "uint32", "float16", "float32")],
        "bfloat16": jax.lax.bitcast_convert_type(floats, jnp.bfloat16),
        "negative zeros": (-np.zeros(3, np.float32), np.float32(-0.0)),
        "keys": jax.random.split(jax.random.key(3), 2),
        "python": [7, -2.5, True],
        "none": None,
        "a/b": {"c": np.arange(2), "d": {7: np.arange(3)}},
        "a": {"b": {"c": np.arange(4)}},
    }


def test_every_dtype_there_and_back(tmp_path):
    tree = everything()
    to_orbax(tree, tmp_path / "all")
    back = from_orbax(tmp_path / "all", like=tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(same, back, tree)
    for found, expected in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert isinstance(found, jax.Array) == isinstance(expected, jax.Array)
    plain = from_orbax(tmp_path / "all")
    assert plain["none"] is None
    same(plain["negative zeros"][0], tree["negative zeros"][0])


def test_a_training_state_comes_back_as_it_was(tmp_path):
    model = eqx.filter(eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0)), eqx.is_array)
    tree = (model, optax.adam(1e-3).init(model))
    to_orbax(tree, tmp_path / "state")
    back = from_orbax(tmp_path / "state", like=jax.tree.map(jnp.zeros_like, tree))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(same, back, tree)


def test_a_checkpoint_of_a_run(tmp_path):
    run = small_run()
    opened = open_checkpoint(run.place, write_checkpoint(run.place, run.snapshot()))
    for number, source in enumerate((opened, run.snapshot())):
        to_orbax(source, tmp_path / str(number))
        back = from_orbax(tmp_path / str(number))
        assert back.keys() == {"pages", "epoch", "tick"}
        same(back["pages"], run.pages)
        same(back["epoch"], run.epoch)
        assert back["tick"] == 3
    empty = mmsb.State.create(3, page_bytes=8)
    state = mmsb.apply(empty, mmsb.DeltaBatch.make(empty, [1], jnp.ones((1, 2), jnp.uint32)))
    to_orbax(state, tmp_path / "state")
    back = from_orbax(tmp_path / "state", like=empty)
    assert isinstance(back, mmsb.State)
    jax.tree.map(same, back, state)


def test_what_orbax_wrote_is_read_and_the_other_way_round(tmp_path):
    tree = {"w": jnp.asarray(random_bits("float32")), "step": 3}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "theirs", tree)
    jax.tree.map(same, from_orbax(tmp_path / "theirs", like=tree), tree)
    to_orbax(tree, tmp_path / "ours")
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        jax.tree.map(same, checkpointer.restore(tmp_path / "ours", tree), tree)


@pytest.mark.parametrize(
    ("leaf", "match"),
    [
        ("text", r"leaf \['a'\]\[1\] is a str"),
        (jax.nn.relu, "equinox.filter"),
        (np.zeros((0, 3)), r"\(0, 3\); Orbax keeps no array without elements"),
        (1j, "complex"),
    ],
)
def test_leaves_that_orbax_cannot_keep_are_named(tmp_path, leaf, match):
    with pytest.raises(InvalidTypeError, match=match):
        to_orbax({"a": [np.ones(1), leaf]}, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    to_orbax({"a": np.arange(3)}, "relative")
    same(from_orbax("relative")["a"], np.arange(3))
    with pytest.raises(InvalidArgumentError, match=r"something at .*relative already"):
        to_orbax({"a": np.arange(3)}, "relative")
    with pytest.raises(InvalidArgumentError, match="without leaves"):
        to_orbax({"a": None}, "nothing")
    with pytest.raises(FileNotFoundError):
        from_orbax(tmp_path / "missing")


@pytest.mark.parametrize(
    ("like", "match"),
    [
        ({"a": np.zeros(3, np.int32)}, r"leaf a is int64\[3\] in the checkpoint and int32\[3\]"),
        ({"a": np.zeros(4, np.int64)}, r"int64\[3\].*int64\[4\]"),
        ({"a": 3}, "a Python int"),
        ({"b": np.zeros(3, np.int64)}, "leaf a isn't in `like`"),
        ({"a": np.zeros(3, np.int64), "b": np.zeros(1)}, "leaf b isn't in the checkpoint"),
    ],
)
def test_another_structure_is_refused_and_nothing_is_converted(tmp_path, like, match):
    to_orbax({"a": np.arange(3)}, tmp_path / "x")
    with pytest.raises(InvalidTypeError, match=match):
        from_orbax(tmp_path / "x", like=like)


def test_without_orbax_the_message_has_the_command(tmp_path):
    code = (
        "import sys; sys.modules['orbax'] = None\n"
        "import mmsb_jax as mmsb, numpy as np\n"
        "for use in (lambda: mmsb.page.to_orbax({'a': np.ones(1)}, 'x'), lambda: mmsb.page.from_orbax('x')):\n"
        "    try: use()\n"
        "    except mmsb.MissingPackageError as why: print(isinstance(why, ImportError), why)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("True Orbax isn't installed") == 2
    assert "pip install 'mmsb-jax[orbax]'" in done.stdout


def test_importing_the_package_does_not_import_orbax():
    code = "import sys, mmsb_jax; print('orbax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
