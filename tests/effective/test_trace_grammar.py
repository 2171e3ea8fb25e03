"""Random small networks from a grammar of layers: the same values, and complete. `DAVE_JAX_NETWORKS=3000` draws that many, other ones each
time (`--hypothesis-seed` repeats them)."""

import dataclasses
import os

import jax
import jax.numpy as jnp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_activations import ACTIVATIONS
from trace_arrays import bias, draw, weights
from trace_control_flow import checkpointed, scanned, sharded
from trace_functions import NETWORKS
from trace_normalisations import layer_norm, rms_norm

import dave_jax as dave
from dave_jax.effective.decomposition import attn_lrp, gim, res_lrp
from dave_jax.effective.gamma import GammaResidual
from dave_jax.effective.rules import exponentials
from dave_jax.effective.tempered import TemperedSoftmax
from dave_jax.evaluation.run import forget_programs

WANTED = os.environ.get("DAVE_JAX_NETWORKS")
NUM_NETWORKS = int(WANTED or 12)

SMALL = [function for function in NETWORKS if function not in (sharded, checkpointed, scanned)]
LAYERS = {f"activation {name}": function for name, function in ACTIVATIONS.items()} | {one.__name__: one for one in SMALL}
"""What keeps the shape (6, 8)."""


ONE = {
    "x + {}": lambda f: lambda x: x + f(x),
    "norm({})": lambda f: lambda x: layer_norm(f(x)),
    "jit({})": lambda f: lambda x: jax.jit(f)(x),
    "remat({})": lambda f: lambda x: jax.checkpoint(f)(x),
    "scan({})": lambda f: lambda x: jax.lax.scan(lambda c, row: (layer_norm(c + f(c) + row[None]), c[0]), x, draw(50, 2, 8))[0],
    "vmap({})": lambda f: lambda x: jax.vmap(f)(jnp.stack([x, x[::-1]])).mean(0),
    "over tokens({})": lambda f: lambda x: draw(51, 6, 8) @ f(draw(51, 6, 8) @ x.T @ draw(52, 6, 8)).T @ draw(52, 6, 8) / 8,
    "{}(x) x": lambda f: lambda x: rms_norm(f(x)) * x,
}
"""What is made of a layer."""

TWO = {
    "{} > {}": lambda f, g: lambda x: g(f(x)),
    "{} + {}": lambda f, g: lambda x: f(x) + g(x),
    "{} * {}": lambda f, g: lambda x: f(x) * g(x),
    "[{}, {}]": lambda f, g: lambda x: jnp.concatenate([f(x)[:3], g(x)[3:]]),
    "sigmoid({}) * {}": lambda f, g: lambda x: jax.nn.sigmoid(f(x)) * g(x),
    "max({}, {})": lambda f, g: lambda x: jnp.maximum(f(x), g(x)),
    "attend({}, {})": lambda f, g: lambda x: jax.nn.softmax(rms_norm(f(x)) @ rms_norm(g(x)).T) @ g(x),
    "if({}, {})": lambda f, g: lambda x: jax.lax.cond(x[0, 0] > 0, f, g, x),
    "where({}, {})": lambda f, g: lambda x: jnp.where(jnp.arange(8)[None] < 4, f(x), g(x)),
}
"""What is made of two."""


def networks(max_leaves):
    """Pairs of a name and a function: layers, and what is made of one or two, again and again."""
    layer = st.sampled_from(sorted(LAYERS)).map(lambda name: (name, LAYERS[name]))
    dense = st.integers(30, 33).map(lambda i: (f"dense {i}", lambda x: x @ weights(i) + bias()))

    def join(names, ways, parts):
        return "(" + names.format(*(name for name, _ in parts)) + ")", ways[names](*(function for _, function in parts))

    def grow(inner):
        of_one = st.builds(lambda names, part: join(names, ONE, [part]), st.sampled_from(sorted(ONE)), inner)
        of_two = st.builds(lambda names, *parts: join(names, TWO, parts), st.sampled_from(sorted(TWO)), inner, inner)
        return st.one_of(of_one, of_two)

    return st.recursive(st.one_of(layer, dense), grow, max_leaves=max_leaves)


@settings(max_examples=NUM_NETWORKS, deadline=None, derandomize=not WANTED, suppress_health_check=list(HealthCheck), database=None)
@given(networks(max_leaves=6), st.sampled_from(["gate", "half", "left", "right"]), st.integers(0, 5))
def test_random_networks(network, gate, seed):
    forget_programs()
    with jax.enable_x64(True):
        name, body = network
        x = draw(100 + seed, 6, 8)

        def function(x):
            return layer_norm(body(layer_norm(x @ weights(40)))).mean(0) @ draw(41, 8, 3)

        report, logits = dave.inspect(function, x, gate=gate), function(x)
        scale = float(jnp.maximum(jnp.abs(logits).max(), 1e-3))
        assert bool(jnp.isfinite(logits).all()), name
        assert float(jnp.abs(report.outputs - logits).max()) < 1e-9 * scale, name  # norms of small numbers magnify rounding
        assert report.residual < 1e-9, (name, str(report))


UNTEMPERED = dataclasses.replace(gim, name="untempered", softmax=exponentials)
EQUAL = {
    "gim": (dataclasses.replace(gim, softmax=TemperedSoftmax(1.0)), UNTEMPERED),
    "res_lrp": (dataclasses.replace(res_lrp, residual=GammaResidual(0.0)), attn_lrp),
}
"""Rules that change nothing at these settings."""


@settings(
    max_examples=max(NUM_NETWORKS // 3, 8), deadline=None, derandomize=not WANTED, suppress_health_check=list(HealthCheck), database=None
)
@given(networks(max_leaves=4), st.sampled_from(sorted(EQUAL)))
def test_rules_that_change_nothing(network, which):
    forget_programs()
    with jax.enable_x64(True):
        name, body = network
        x, cotangent = draw(100, 6, 8), jnp.array([1.0, -2.0, 0.5])

        def function(x):
            return layer_norm(body(layer_norm(x @ weights(40)))).mean(0) @ draw(41, 8, 3)

        logits, slopes = function(x), []
        for decomposition in EQUAL[which]:
            try:
                values, pull_back = jax.vjp(dave.decompose(function, decomposition), x)
            except ValueError as error:
                assert "site `softmax`" in str(error), name  # a form of softmax that the rule refuses
                return
            assert float(jnp.abs(values - logits).max()) <= 1e-9 * max(float(jnp.abs(logits).max()), 1e-3), name
            slopes.append(pull_back(cotangent)[0])
        # JAX's attention computes its softmax in single precision.
        tolerance = 1e-6 if "library" in name else 1e-8
        assert float(jnp.abs(slopes[0] - slopes[1]).max()) <= tolerance * float(jnp.abs(slopes[1]).max()) + 1e-10, name
