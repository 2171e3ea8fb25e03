import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vit_twin import CASES, TARGETS, patches_of_product, random_image, random_model, relation, twin

from dave_jax.attribution.baselines.chefer import GenericAttention, TransformerAttribution
from dave_jax.attribution.baselines.relevance import relevances
from dave_jax.attribution.baselines.walk import block_probe, differentiated, head_probe, pull
from dave_jax.models.rotary import Rotary

pytestmark = pytest.mark.slow

ARCHITECTURES = [
    {"layer_scale": True},
    {"pooling": "avg", "final_norm": "pooled", "class_token": False, "num_registers": 2},
    {"distillation_token": True, "pre_norm": True, "query_key_norm": True, "attention_norm": True},
    {"norm": "rms_norm", "gated_mlp": True, "activation": "silu", "mlp_norm": True, "qkv_bias": False, "proj_bias": False},
    {"pooling": "map", "pool_prefix": True, "num_registers": 1},
    {"pooling": "token_and_mean", "num_registers": 1},
    {"relative_position": True, "rotary": Rotary(), "key_bias": False, "position_embedding": False, "layer_scale": True},
    {"post_norm": True, "rotary": Rotary("learned"), "pooling": "map", "pool_num_heads": 4, "pool_mlp_width": 8},
]


@pytest.mark.parametrize("case", CASES)
def test_generic_attention(case):
    values = twin(case)

    def fuse(attention, derivative):
        return sum(np.maximum(a * d, 0.0) for a, d in zip(attention, derivative, strict=True)) / 2

    for target, scores in enumerate(relation(case, GenericAttention(upsampling="nearest"))):
        matrices = [fuse(attention, derivative) for attention, derivative in zip(values["A"], values["dA"][target], strict=True)]
        pool = None if values["pool_A"] is None else fuse(values["pool_A"], values["pool_dA"][target])
        expected = patches_of_product(case, matrices, pool, normalise=False)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-15)


# The relevance pass by hand, in NumPy, rule by rule, term by term.


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def back_linear(x, kernel, relevance):
    """Each output's relevance to its positive terms `x_i W_ij`."""
    result = np.zeros_like(x)
    for token in range(len(x)):
        for j in range(kernel.shape[1]):
            terms = np.maximum(x[token] * kernel[:, j], 0.0)
            result[token] += terms / terms.sum() * relevance[token, j]
    return result


def back_product(a, b, relevance):
    """Half of each entry's relevance to each factor, by its terms `a_ij b_jk`."""
    terms = a[:, :, None] * b[None]
    shares = terms / terms.sum(1, keepdims=True) * relevance[:, None] / 2
    return shares.sum(2), shares.sum(0)


def back_sum(x, y, relevance):
    parts = [term / (x + y) * relevance for term in (x, y)]
    sizes = [abs(part.sum()) for part in parts]
    return [part * size / sum(sizes) * relevance.sum() / part.sum() for part, size in zip(parts, sizes, strict=True)]


def relevance_by_hand(model, tokens, target):
    """From the one-hot target back: the attention matrices' relevance, and that of the tokens before the first block."""
    params = jax.tree.map(np.asarray, model.params)
    heads = model.forward.config.num_heads
    last = norm(params["final_norm"], tokens[-1])
    relevance = np.zeros_like(last)
    relevance[:1] = back_linear(last[:1], params["head"]["kernel"], np.eye(5)[[target]])
    found = []
    for index in reversed(range(len(tokens) - 1)):
        p = jax.tree.map(lambda leaf, index=index: leaf[index], params["blocks"])
        x = tokens[index]
        y, attend = norm(p["attention_norm"], x), p["attention"]
        q, k, v = (np.split(dense(attend[name], y), heads, axis=1) for name in ("query", "key", "value"))
        scores = [a @ b.T / math.sqrt(a.shape[1]) for a, b in zip(q, k, strict=True)]
        matrices = [np.exp(s) / np.exp(s).sum(1, keepdims=True) for s in scores]
        mixed = np.concatenate([a @ b for a, b in zip(matrices, v, strict=True)], axis=1)
        branch = dense(attend["proj"], mixed)
        middle = x + branch
        z = norm(p["mlp_norm"], middle)
        hidden = dense(p["mlp"]["fc1"], z)
        active = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))

        stream, inner = back_sum(middle, dense(p["mlp"]["fc2"], active), relevance)
        inner = back_linear(active, p["mlp"]["fc2"]["kernel"], inner)
        inner = back_linear(z, p["mlp"]["fc1"]["kernel"], inner)
        stream, inner = back_sum(x, branch, stream + inner)
        inner = np.split(back_linear(mixed, attend["proj"]["kernel"], inner), heads, axis=1)
        of_q, of_k, of_v, of_a = [], [], [], []
        for h in range(heads):
            ra, rv = back_product(matrices[h], v[h], inner[h])
            rq, rk = back_product(q[h], k[h].T, ra)
            for part, value in ((of_q, rq), (of_k, rk.T), (of_v, rv), (of_a, ra)):
                part.append(value)
        found.append(np.stack(of_a))
        names = {"query": of_q, "key": of_k, "value": of_v}
        relevance = stream + sum(back_linear(y, attend[name]["kernel"], np.concatenate(part, 1)) for name, part in names.items())
    return found[::-1], relevance


def test_transformer_attribution():
    """The stabiliser of 1e-9 in the denominators leaves 1e-6 or so."""
    values = twin("class")
    maps = relation("class", TransformerAttribution(upsampling="nearest"))
    for index, target in enumerate(TARGETS):
        relevance, _ = relevance_by_hand(values["model"], values["tokens"], target)
        pairs = zip(values["dA"][index], relevance, strict=True)
        matrices = [np.maximum(derivative * found, 0.0).mean(0) for derivative, found in pairs]
        expected = patches_of_product("class", matrices, None, normalise=False)
        np.testing.assert_allclose(maps[index], expected, rtol=1e-5, atol=1e-6 * expected.max())


@pytest.mark.parametrize("options", ARCHITECTURES, ids=str)
def test_values_and_total_are_kept(options, x64):
    """The relevance network has the model's values, and passes on all the relevance that it is given, to the stabiliser's 1e-9."""
    model = random_model(**options)
    vit, params = model.forward, model.params
    image = random_image()
    cotangents = jnp.array([[0.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, -2.0, 0.0, 3.0]])

    @jax.jit
    def compute(params, image):
        tokens = vit.intermediates(params, image)[1].tokens
        plain, ours = differentiated(vit), relevances(vit)
        block = jax.tree.map(lambda leaf: leaf[-1], params["blocks"])
        probes = block_probe(vit.config, tokens[0]), head_probe(vit.config, tokens[0])
        values = [(network.block(block, tokens[-2], probes[0]), network.head(params, tokens[-1], probes[1])) for network in (plain, ours)]
        head = pull(ours.head, params, tokens[-1], probes[1], cotangents)
        return values, head.tokens, pull(ours.block, block, tokens[-2], probes[0], head.tokens).tokens

    (plain, ours), head, block = compute(params, image)
    for expected, value in zip(jax.tree.leaves(plain), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)
    if options.get("pooling") != "map":  # whose query is a parameter and takes its share
        np.testing.assert_allclose(head.sum((1, 2)), [1.0, 2.0], rtol=1e-6)
        np.testing.assert_allclose(block.sum((1, 2)), [1.0, 2.0], rtol=1e-5)
    assert np.isfinite(block).all()
