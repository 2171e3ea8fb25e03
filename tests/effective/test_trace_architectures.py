"""Architectures from their papers' equations: the same values, complete, the operators that are in them and no others; four by hand."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import stop_gradient
from networks import b_cos, clip, coda, mixer, mobilenet, pooled_vit, swin, vision_language

import dave_jax as dave

pytestmark = pytest.mark.slow


def sites(normalisation=0, activation=0, attention=0, gate=0, **ambiguous):
    """How many operators of each site; `ambiguous_gate` and the like count the products of two streams among them."""
    counts = {("operator", "normalisation"): normalisation, ("operator", "activation"): activation, ("operator", "attention"): attention}
    counts |= {("operator", "gate"): gate} | {("ambiguous", site.removeprefix("ambiguous_")): count for site, count in ambiguous.items()}
    return {site: count for site, count in counts.items() if count}


CASES = {
    # a unit's weights times its window: a sum of products, so the site is that of attention
    "coda": (coda.draw_params, coda.forward, sites(attention=2, ambiguous_attention=2)),
    "coda, rescaled": (coda.draw_params, coda.forward_rescaled, sites(attention=2, ambiguous_attention=2)),
    "coda, mapped": (coda.draw_params, coda.forward_mapped, sites(attention=2, ambiguous_attention=2)),
    "b-cos": (b_cos.draw_params, b_cos.forward, sites(gate=3, ambiguous_gate=3)),
    "clip": (clip.draw_params, clip.forward, sites(normalisation=7, attention=2, activation=2)),
    "clip, text fixed": (clip.draw_fixed_params, clip.forward_fixed, sites(normalisation=7, attention=2, activation=2)),
    # the decoder's two layers are one scan: in it two norms and an attention; around it three norms, one of them RMS; activations of the
    # encoder and the projector
    "vision-language": (
        vision_language.draw_params,
        vision_language.forward,
        sites(normalisation=6, attention=2, activation=2, gate=1, ambiguous_gate=1),
    ),
    "swin": (swin.draw_params, swin.forward, sites(normalisation=9, attention=3, activation=3)),
    "mixer": (mixer.draw_params, mixer.forward, sites(normalisation=3, activation=2)),
    "attention pooling": (pooled_vit.draw_params, pooled_vit.forward, sites(normalisation=6, attention=3, activation=3)),
    "rotary": (pooled_vit.draw_params, pooled_vit.forward_rotary, sites(normalisation=5, attention=2, activation=2)),
    # hard swish is x times a piecewise linear function of it
    "mobilenet": (
        mobilenet.draw_params,
        mobilenet.forward,
        sites(activation=8, gate=3, ambiguous_activation=8, ambiguous_gate=3),
    ),
}


@pytest.fixture
def image(x64):
    return jnp.asarray(np.random.default_rng(0).normal(size=(16, 16, 3)))


@pytest.mark.parametrize("name", CASES)
def test_values_completeness_and_sites(name, image):
    draw_params, forward, expected = CASES[name]
    params = draw_params()
    report, logits = dave.inspect(lambda image: forward(params, image), image), jax.jit(forward)(params, image)
    scale = float(jnp.abs(logits).max())
    assert float(jnp.abs(report.outputs - logits).max()) < 1e-13 * scale
    assert report.residual < 1e-12
    assert collections.Counter((one.kind, one.site) for one in report.findings) == expected
    assert float(jnp.abs(report.leak).max()) == 0
    assert float(jnp.abs(report.image).max()) > 1e-3 * scale


# Frozen by hand.


def frozen_coda(params, image):
    """As the paper has it: `w(x)` is the weight of a linear unit."""
    x = image
    for layer, (channels, units, _, stride) in zip(params, coda.LAYERS, strict=True):
        cut = jax.lax.conv_general_dilated_patches(x[None], (3, 3), (stride,) * 2, [(1, 1)] * 2, dimension_numbers=b_cos.NAMES)[0]
        windows = cut.reshape(*cut.shape[:2], channels, 9).swapaxes(2, 3).reshape(*cut.shape[:2], -1)  # these have the channel first
        u = jnp.einsum("hwd,dr,re->hwe", windows, layer["down"], layer["up"]) + layer["bias"][None, None]
        outputs = []
        for one in jnp.split(u, units, axis=-1):
            size = jnp.sqrt(jnp.sum(one**2, -1, keepdims=True))
            outputs.append(jnp.sum(stop_gradient(one / size / (1 + size**-2)) * windows, axis=-1))
        x = jnp.stack(outputs, axis=-1)
    return x.sum((0, 1)) / coda.TEMPERATURE


def frozen_b_cos(params, image):
    """`|cos(x, w)|` is frozen, and the filter's own norm is a constant."""
    x = jnp.concatenate([image, 1 - image], axis=-1)
    for i, (kernel, (_, _, size, stride)) in enumerate(zip(params["kernels"], b_cos.LAYERS, strict=True)):
        kernel = kernel / jnp.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), axis=0)[None, None, None]
        y = b_cos.convolve(x, kernel, stride)
        y = jnp.maximum(y[..., ::2], y[..., 1::2]) if i < 2 else y
        ones = jnp.ones((size, size, x.shape[-1], 1))
        cosine = y / jnp.sqrt(b_cos.convolve(x * x, ones, stride) + 1e-6)
        x = stop_gradient(jnp.abs(cosine)) * y
    return x.mean((0, 1)) + params["logit_bias"]


def dense(params, x):
    return x @ params["kernel"] + jnp.tile(params["bias"], (len(x), 1))


def norm(params, x):
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.mean(centred * centred, -1, keepdims=True)
    return stop_gradient(jax.lax.rsqrt(variance + 1e-6)) * centred * params["scale"][None] + params["bias"][None]


def gelu(x, multiplier=jax.scipy.stats.norm.cdf):
    return stop_gradient(multiplier(x)) * x


def frozen_block(params, x):
    y = norm(params["norm1"], x)
    query, key, value = (dense(params[name], y) for name in ("query", "key", "value"))
    heads = []
    for columns in (slice(0, 4), slice(4, 8)):
        scores = query[:, columns] @ key[:, columns].T / 2.0
        heads.append(stop_gradient(jax.nn.softmax(scores)) @ value[:, columns])
    x = x + dense(params["proj"], jnp.concatenate(heads, axis=1))
    return x + dense(params["fc2"], gelu(dense(params["fc1"], norm(params["norm2"], x))))


def cut(image):
    return jnp.stack([image[i : i + 4, j : j + 4].reshape(-1) for i in range(0, 16, 4) for j in range(0, 16, 4)])


def frozen_clip(params, image):
    """The embedding's length is an operator as any norm's is."""
    tower = params["image"]
    x = norm(tower["norm_pre"], jnp.concatenate([tower["class"], cut(image) @ tower["patch"]]) + tower["position"])
    for one in tower["blocks"]:
        x = frozen_block(one, x)
    embedding = (norm(tower["norm"], x) @ tower["projection"])[0]
    embedding = embedding / stop_gradient(jnp.sqrt(jnp.sum(embedding**2)))
    return jnp.exp(params["log_scale"]) * (clip.draw_fixed_params()["classifier"].T @ embedding)


def frozen_rms(scale, x):
    return x * stop_gradient(1 / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)) * scale[None]


def turned(x):
    """One head, (tokens, 4): a complex number's angle for each pair of channels."""
    turns = np.exp(1j * np.arange(len(x))[:, None] * np.array([1.0, 0.1]))
    z = jax.lax.complex(x[:, :2], x[:, 2:]) * jnp.asarray(turns)
    return jnp.concatenate([z.real, z.imag], axis=1)


def frozen_vision_language(params, image):
    vision, projector = params["vision"], params["projector"]
    x = norm(vision["norm"], frozen_block(vision["block"], dense(vision["patch"], cut(image)) + vision["position"]))
    tanh_gelu = lambda x: 0.5 * (1 + jnp.tanh((2 / jnp.pi) ** 0.5 * (x + 0.044715 * x**3)))
    x = dense(projector["fc2"], gelu(dense(projector["fc1"], x), tanh_gelu))
    x = jnp.concatenate([x, params["words"][vision_language.PROMPT]])
    future = np.arange(len(x))[None] > np.arange(len(x))[:, None]
    for i in range(2):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"])
        y = frozen_rms(layer["norm1"], x)
        query, key, value = (y @ layer[name] for name in ("query", "key", "value"))
        heads = []
        for head in range(4):
            of_query, of_key = slice(4 * head, 4 * head + 4), slice(4 * (head // 2), 4 * (head // 2) + 4)
            scores = turned(query[:, of_query]) @ turned(key[:, of_key]).T / 2.0
            weights = jnp.where(future, 0.0, jnp.exp(scores))
            heads.append(stop_gradient(weights / weights.sum(1, keepdims=True)) @ value[:, of_key])
        x = x + jnp.concatenate(heads, axis=1) @ layer["proj"]
        y = frozen_rms(layer["norm2"], x)
        gate = y @ layer["gate"]
        x = x + (stop_gradient(gate / (1 + jnp.exp(-gate))) * (y @ layer["up"])) @ layer["down"]
    return params["words"] @ frozen_rms(params["norm"], x)[-1]


BY_HAND = {
    "coda": frozen_coda,
    "coda, mapped": frozen_coda,
    "b-cos": frozen_b_cos,
    "clip": frozen_clip,
    "clip, text fixed": frozen_clip,
    "vision-language": frozen_vision_language,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_effective_transformation_is_that_of_the_network_frozen_by_hand(name, image):
    draw_params, forward, _ = CASES[name]
    params, by_hand = draw_params(), clip.draw_params() if "clip" in name else draw_params()
    (logits, found), (others, expected) = (
        jax.jit(jax.value_and_grad(lambda image, params, function=function: function(params, image)[1]))(image, params)
        for function, params in ((dave.decompose(forward, argnum=1), params), (BY_HAND[name], by_hand))
    )
    assert float(jnp.abs(logits - others)) < 1e-12 * float(jnp.abs(others))
    assert float(jnp.abs(found - expected).max()) < 1e-12 * float(jnp.abs(expected).max())


def test_a_pair_of_streams_shares_its_similarity(image):
    """Image and words both live: nobody is the other's operator, so each accounts for half, its own length frozen."""
    params = clip.draw_params()
    inputs = {"image": image, "words": params["text"]["vocabulary"][clip.PROMPTS[0]]}
    both = lambda inputs: clip.pair(params, inputs)
    report = dave.inspect(both, inputs)
    assert report.residual < 1e-12
    assert [one.note for one in report.findings if one.kind == "ambiguous"] == ["each side, half (half)"]
    found = jax.jit(jax.grad(dave.decompose(both)))(inputs)["image"]
    alone = jax.jit(jax.grad(lambda image: frozen_clip(params, image)[0]))(image)
    assert float(jnp.abs(found - 0.5 * alone).max()) < 1e-12 * float(jnp.abs(alone).max())


@pytest.mark.parametrize("name", ["clip", "vision-language"])
def test_they_are_explained(name):
    draw_params, forward, _ = CASES[name]
    config = dave.DaveConfig(num_samples=2, noise_alpha=0.3)
    model = dave.Model.from_function(forward, draw_params(), preprocessing=dave.Preprocessing(image_size=(16, 16)), config=config)
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    maps = dave.explain(model, images, [0, 2], key=jax.random.key(1))
    assert maps.shape == (2, 16, 16) and bool(jnp.isfinite(maps).all()) and jnp.allclose(maps.max((1, 2)), 1.0)
