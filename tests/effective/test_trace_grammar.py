"""Random small networks from a grammar of layers: the same values, and complete. `DAVE_JAX_NETWORKS=3000` draws that many."""

import os

import jax.numpy as jnp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_activations import ACTIVATIONS
from trace_arrays import bias, draw, weights
from trace_control_flow import checkpointed, scanned, sharded
from trace_functions import NETWORKS
from trace_normalisations import layer_norm

import dave_jax as dave

NUM_NETWORKS = int(os.environ.get("DAVE_JAX_NETWORKS", "12"))

SMALL = [function for function in NETWORKS if function not in (sharded, checkpointed, scanned)]
LAYERS = {f"activation {name}": function for name, function in ACTIVATIONS.items()} | {one.__name__: one for one in SMALL}
"""What keeps the shape (6, 8)."""


def compose(first, second):
    return lambda x: second(first(x))


def networks(max_leaves):
    """Layers, and what is made of two: one after the other, a residual sum, a product, a concatenation; all from the layers' own names."""
    layer = st.sampled_from(sorted(LAYERS)).map(lambda name: (name, LAYERS[name]))
    dense = st.integers(30, 33).map(lambda i: (f"dense {i}", lambda x: x @ weights(i) + bias()))

    def grow(inner):
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda two: (f"({two[0][0]} > {two[1][0]})", compose(two[0][1], two[1][1]))),
            inner.map(lambda one: (f"(x + {one[0]})", lambda x: x + one[1](x))),
            pair.map(lambda two: (f"({two[0][0]} + {two[1][0]})", lambda x: two[0][1](x) + two[1][1](x))),
            pair.map(lambda two: (f"({two[0][0]} * {two[1][0]})", lambda x: two[0][1](x) * two[1][1](x))),
            pair.map(lambda two: (f"[{two[0][0]}, {two[1][0]}]", lambda x: jnp.concatenate([two[0][1](x)[:3], two[1][1](x)[3:]]))),
            inner.map(lambda one: (f"norm({one[0]})", lambda x: layer_norm(one[1](x)))),
        )

    return st.recursive(st.one_of(layer, dense), grow, max_leaves=max_leaves)


@settings(max_examples=NUM_NETWORKS, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(networks(max_leaves=6), st.sampled_from(["gate", "half", "left", "right"]), st.integers(0, 5))
def test_random_networks(network, gate, seed):
    import jax

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
