"""Programs as they come from PyPI, recorded and resumed bit for bit. Nothing here is made to fit."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mmsb_jax as mmsb
from mmsb_jax.testing import assert_replay_identical

# The strictness of this suite is ours: their code promotes dtypes, and warns of what it uses.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def their_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_molecular_dynamics_of_jax_md(tmp_path):
    from jax_md import energy, simulate, space

    box = 4.0
    displacement, shift = space.periodic(box)
    init, apply = simulate.nvt_langevin(energy.soft_sphere_pair(displacement), shift, dt=1e-3, kT=0.5)
    positions = jax.random.uniform(jax.random.key(0), (32, 3)) * box
    state = init(jax.random.PRNGKey(1), positions)
    assert_replay_identical(apply, state, 40, cuts=[13])
    run = mmsb.record(apply, state, 40, path=tmp_path / "run", progress=False)
    assert type(run.final) is type(state)
    assert run.at(20).position.shape == (32, 3)
    assert not np.array_equal(run.at(20).position, run.at(21).position)
    changed = {part.name for part in run.diff(20, 21).parts}
    assert changed == {".position", ".momentum", ".force", ".rng"}  # the mass stays


def test_an_environment_of_gymnax(tmp_path):
    import gymnax

    env, params = gymnax.make("CartPole-v1")

    def step(carry):
        key, state = carry
        key, act, go = jax.random.split(key, 3)
        action = env.action_space(params).sample(act)
        observation, state, *_ = env.step(go, state, action, params)
        return (key, state), observation

    _, state = env.reset(jax.random.key(0), params)
    carry = (jax.random.key(7), state)
    assert_replay_identical(step, carry, 60, cuts=[1, 31])
    run = mmsb.record(step, carry, 60, path=tmp_path / "run", progress=False)
    seen = [out for _, (_, out) in run.iterate(1)]
    assert np.shape(seen) == (60, 4)
    assert np.isfinite(seen).all()


def test_a_training_loop_of_an_equinox_model_with_optax(tmp_path):
    model = eqx.nn.MLP(2, 1, width_size=16, depth=2, key=jax.random.key(0))
    optimiser = optax.adamw(optax.cosine_decay_schedule(3e-3, 60))
    points = jax.random.normal(jax.random.key(1), (64, 2))
    targets = jnp.sin(points[:, :1]) * points[:, 1:]

    def loss(model, x, y):
        return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    def step(carry, batch):
        model, state = carry
        x, y = points[batch], targets[batch]
        value, gradient = eqx.filter_value_and_grad(loss)(model, x, y)
        updates, state = optimiser.update(gradient, state, eqx.filter(model, eqx.is_array))
        return (eqx.apply_updates(model, updates), state), value

    carry = (model, optimiser.init(eqx.filter(model, eqx.is_array)))
    batches = np.random.default_rng(0).integers(0, 64, (60, 16), dtype=np.int32)
    assert_replay_identical(step, carry, 60, xs=batches, cuts=[25])
    run = mmsb.record(step, carry, 60, xs=batches, path=tmp_path / "run", progress=False)
    (trained, _), last = run.final
    assert trained.activation is model.activation
    assert float(last) < float(run.at(1)[1])
    early = run.at(10)[0][0]
    assert float(loss(trained, points, targets)) < float(loss(early, points, targets))
