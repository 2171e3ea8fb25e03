"""Functions of tokens (6, 8) as people write them, for the tests of `decompose`; each returns (6, 8)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec


def draw(i, *shape):
    """Drawn by NumPy, so that no function has to be compiled with a generator in it."""
    return jnp.asarray(np.random.default_rng(i).normal(size=shape), jnp.result_type(float))


def weights(i):
    return draw(i, 8, 8) / 8**0.5


def bias():
    return draw(1, 1, 8)


def tokens():
    return draw(0, 6, 8)


# Activations.

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": lambda x: jax.nn.relu6(4 * x),
    "leaky relu": jax.nn.leaky_relu,
    "hard tanh": jax.nn.hard_tanh,
    "hard sigmoid": jax.nn.hard_sigmoid,
    "hard swish": jax.nn.hard_swish,
    "clip": lambda x: jnp.clip(x, -0.3, 0.4),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu tanh": jax.nn.gelu,
    "gelu by hand": lambda x: 0.5 * x * (1 + jax.lax.erf(x / 2**0.5)),
    "silu": jax.nn.silu,
    "silu by hand": lambda x: x / (1 + jnp.exp(-x)),
    "mish": jax.nn.mish,
    "squared relu": lambda x: jnp.square(jax.nn.relu(x)),
    "relu ** 1.5": lambda x: jax.nn.relu(x) ** 1.5,
    "x * x": lambda x: x * x,
    "cube": lambda x: x**3,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "tanh by hand": lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
    "erf": jax.lax.erf,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "softplus by hand": lambda x: jnp.log(1 + jnp.exp(x)),
    "squareplus": jax.nn.squareplus,
    "sigmoid": jax.nn.sigmoid,
    "log sigmoid": jax.nn.log_sigmoid,
    "cos": jnp.cos,
    "log cosh": lambda x: jnp.log(jnp.cosh(x)),
    "smooth abs": lambda x: jnp.sqrt(x**2 + 1e-3),
    "snake": lambda x: x + jnp.sin(x) ** 2,
}


def swiglu(x):
    return jax.nn.silu(x @ weights(2)) * (x @ weights(3))


def geglu(x):
    a, b = jnp.split(x @ draw(2, 8, 16), 2, axis=-1)
    return a * jax.nn.gelu(b)


def tanh_gate(x):
    return jnp.tanh(x @ weights(2)) * jax.nn.sigmoid(x @ weights(3))


def bilinear(x):
    return (x @ weights(2)) * (x @ weights(3))


def squeeze_excite(x):
    return x * jax.nn.sigmoid(jax.nn.relu(x.mean(0, keepdims=True) @ weights(2)) @ weights(3))


def hard_squeeze_excite(x):
    return x * jax.nn.hard_sigmoid(jax.nn.relu(x.mean(0, keepdims=True) @ weights(2)) @ weights(3))


# Normalisation.


def layer_norm(x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * draw(4, 1, 8) + bias()


def fast_variance(x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0.0)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def rms_norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def group_norm(x):
    groups = x.reshape(6, 2, 4)
    mean, variance = groups.mean((0, 2), keepdims=True), groups.var((0, 2), keepdims=True)
    return ((groups - mean) / jnp.sqrt(variance + 1e-5)).reshape(6, 8)


def batch_norm(x):
    return (x - draw(5, 1, 8)) / jnp.sqrt(jnp.abs(draw(6, 1, 8)) + 1e-5) * draw(7, 1, 8) + bias()


def response_norm(x):
    size = jnp.linalg.norm(x, axis=0, keepdims=True)
    return x * (size / (size.mean(-1, keepdims=True) + 1e-6)) * bias() + x


def cosine(x):
    kernel = weights(2) / jnp.linalg.norm(weights(2), axis=0, keepdims=True)
    return (x / jnp.linalg.norm(x, axis=-1, keepdims=True)) @ kernel


def b_cos(x):
    kernel = weights(2) / jnp.linalg.norm(weights(2), axis=0, keepdims=True)
    y = x @ kernel
    return y * jnp.abs(y) / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


def coda(x):
    kernel = x @ weights(2)
    kernel = kernel / jnp.maximum(1e-6, jnp.linalg.norm(kernel, axis=-1, keepdims=True))
    return jnp.sum(kernel * x, -1, keepdims=True) * kernel


# Attention.


def attention(x):
    q, k, v = x @ weights(2), x @ weights(3) + bias(), x @ weights(4)
    return jax.nn.softmax(q @ k.T / 8**0.5) @ v


def masked_attention(x):
    scores = jnp.where(jnp.tril(jnp.ones((6, 6), bool)), x @ weights(2) @ x.T, -jnp.inf)
    return jax.nn.softmax(scores) @ x


def capped_attention(x):
    return jax.nn.softmax(5 * jnp.tanh(x @ weights(2) @ x.T / 5)) @ x


def library_attention(x, **options):
    q, k, v = ((x @ weights(i)).reshape(1, 6, 2, 4) for i in (2, 3, 4))
    with jax.numpy_dtype_promotion("standard"):  # JAX's own code mixes types
        return jax.nn.dot_product_attention(q, k, v, **options).reshape(6, 8)


def causal_library_attention(x):
    return library_attention(x, is_causal=True)


def rotary_attention(x):
    def rotate(z):
        a, b = jnp.split(z, 2, -1)
        angle = jnp.arange(6.0)[:, None] * jnp.arange(1.0, 5.0)[None]
        return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)

    return jax.nn.softmax(rotate(x @ weights(2)) @ rotate(x @ weights(3)).T) @ (x @ weights(4))


def attention_pooling(x):
    return jnp.tile(jax.nn.softmax(draw(5, 1, 8) @ (x @ weights(2)).T) @ x, (6, 1))


def linear_attention(x):
    q, k, v = jax.nn.elu(x @ weights(2)) + 1, jax.nn.elu(x @ weights(3)) + 1, x @ weights(4)
    return (q @ (k.T @ v)) / (q @ k.sum(0)[:, None])


def relu_attention(x):
    return jax.nn.relu(x @ weights(2)) @ jax.nn.relu(x @ weights(3)).T @ x / 6


# Control and structure.


def scanned(x):
    def block(x, kernel):
        x = x + attention(layer_norm(x))
        return x + jax.nn.gelu(x @ kernel, approximate=False), x.sum()

    return jax.lax.scan(block, x, draw(8, 3, 8, 8) / 3)[0]


def recurrent(x):
    def step(state, row):
        state = jnp.tanh(state @ weights(2) + row)
        return state, state

    return jax.lax.scan(step, jnp.zeros(8, x.dtype), x)[1]


def gated_recurrent(x):
    def step(state, row):
        return 0.5 * state + row * jax.nn.sigmoid(state), state

    return jax.lax.scan(step, jnp.ones(8, x.dtype), x, reverse=True)[1]


def branched(x):
    return jax.lax.cond(x[0, 0] > 0, lambda x: jnp.tanh(x) + 1, lambda x: jax.nn.silu(x) @ weights(2), x)


def branched_to_a_constant(x):
    return x + jax.lax.cond(x[0, 0] > 10, lambda x: x, lambda x: jnp.ones_like(x), x)


def counted_while(x):
    return jax.lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, jnp.tanh(c[1] @ weights(2))), (0, x))[1]


def counted_for(x):
    return jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ weights(2)) + bias(), x)


def checkpointed(x):
    return jax.checkpoint(lambda x: x + attention(layer_norm(x)), policy=jax.checkpoint_policies.dots_saveable)(x)


@jax.custom_vjp
def straight_silu(x):
    return x * jax.nn.sigmoid(x)


straight_silu.defvjp(lambda x: (straight_silu(x), None), lambda _, cotangent: (cotangent,))


@jax.custom_jvp
def own_sinh(x):
    return jnp.sinh(x)


own_sinh.defjvp(lambda primals, tangents: (own_sinh(*primals), tangents[0]))


def nested_jit(x):
    return jax.jit(lambda x: jax.jit(jax.nn.gelu)(x) @ weights(2))(x)


def mapped(x):
    return jax.vmap(lambda row: jnp.tanh(row @ weights(2)) * jax.nn.sigmoid(row))(x)


def sharded(x):
    mesh = jax.make_mesh((1,), ("a",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("a")
    return jax.shard_map(lambda x: jnp.tanh(x @ weights(2)) + jax.lax.psum(x, "a"), mesh=mesh, in_specs=spec, out_specs=spec)(x)


def convolution(x):
    names = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x.reshape(1, 6, 8, 1), draw(8, 3, 3, 1, 4), (1, 1), "SAME", dimension_numbers=names)
    y = jax.nn.relu(y - draw(9, 1, 1, 1, 4))
    y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return y.reshape(6, 8)


def average_pooling(x):
    return jnp.tile(jax.lax.reduce_window(x, 0.0, jax.lax.add, (3, 1), (3, 1), "VALID"), (3, 1))


def generalised_mean(x):
    return jnp.tile(jnp.power(jnp.mean(jnp.maximum(x, 1e-6) ** 3.0, 0, keepdims=True), 1 / 3), (6, 1))


def strongest(x):
    return jnp.tile(jax.lax.top_k(x.T, 2)[0].T, (3, 1))


def by_order(x):
    return jnp.take_along_axis(x, jnp.argsort(x, 0), 0) + jnp.sort(x, 1)


def three_factors(x):
    return jnp.einsum("ij,jk,lk->il", x, weights(2), weights(3)) + jnp.einsum(
        "ij,ij,ij->ij", jax.nn.sigmoid(x), jnp.tanh(x @ weights(2)), x
    )


def scattered(x):
    return jnp.zeros((6, 8), x.dtype).at[jnp.array([0, 3])].add(jnp.tanh(x[:2])) + x.at[2].set(1.0)


def chosen_row(x):
    return x + jax.lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 0), (1, 8))


def spectrum(x):
    return jnp.fft.fft2(x).real + jnp.cumsum(x, 0)


def dropped(x):
    return x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape).astype(x.dtype)


NETWORKS = [
    swiglu, geglu, tanh_gate, bilinear, squeeze_excite, hard_squeeze_excite,
    layer_norm, fast_variance, rms_norm, group_norm, batch_norm, response_norm, cosine, b_cos, coda,
    attention, masked_attention, capped_attention, library_attention, causal_library_attention, rotary_attention, attention_pooling,
    linear_attention, relu_attention,
    scanned, recurrent, gated_recurrent, branched, branched_to_a_constant, counted_while, counted_for, checkpointed, straight_silu,
    own_sinh,
    nested_jit, mapped, sharded, convolution, average_pooling, generalised_mean, strongest, by_order, three_factors, scattered, chosen_row,
    spectrum, dropped,
]  # fmt: skip
