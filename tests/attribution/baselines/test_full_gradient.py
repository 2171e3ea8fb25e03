import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vit_twin
from vit_twin import CASES, TARGETS, relation, twin

import dave_jax as dave
from dave_jax.attribution.baselines.full_gradient import FullGradPlus
from dave_jax.attribution.baselines.gradient import InputTimesGradient

pytestmark = pytest.mark.slow


def spread(tree, count):
    """Every bias of a block as one row a token."""
    return {
        name: spread(part, count) if isinstance(part, dict) else jnp.repeat(part[None], count, 0) if name == "bias" else part
        for name, part in tree.items()
    }


@pytest.mark.parametrize("case", ["class", "average"])
def test_full_grad_plus(case, monkeypatch, x64):
    """Against the sum written out: image, tokens before each block, position embedding, and every bias of every token."""
    values = twin(case)
    config, params, image = values["config"], values["model"].params, jnp.asarray(values["image"])
    count = config.num_prefix + 16
    row = lambda p, x: x @ p["kernel"] + (p["bias"] if p["bias"].ndim == 2 else p["bias"][None])
    scaled = lambda p, x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"][None]
    monkeypatch.setattr(vit_twin, "dense", row)
    monkeypatch.setattr(vit_twin, "norm", lambda p, x: scaled(p, x) + (p["bias"] if p["bias"].ndim == 2 else p["bias"][None]))
    zeros = jnp.zeros((config.num_heads, count, count))
    parts = {
        "image": image,
        "position_embedding": params["position_embedding"],
        "patch_embedding": spread(params["patch_embedding"], 16),
        "blocks": [spread(vit_twin.layer(params, index), count) for index in range(config.depth)],
        "final_norm": spread(params["final_norm"], count) if config.final_norm == "tokens" else params["final_norm"],
        "probes": jnp.zeros((config.depth, count, config.width)),
    }

    def logits(parts):
        filled = params | {name: parts[name] for name in ("position_embedding", "patch_embedding", "final_norm")}
        x = vit_twin.embed(filled, config, parts["image"])
        for block, probe in zip(parts["blocks"], parts["probes"], strict=True):
            x = vit_twin.block(block, x + probe, config.num_heads, zeros)[0]
        return vit_twin.head(filled, config, x, None)[0][jnp.array(TARGETS)]

    slopes = jax.tree.map(np.asarray, jax.jit(jax.jacrev(logits))(parts))
    maps = relation_of_parts(values, FullGradPlus(upsampling="nearest"))
    for target in range(2):
        scores = (values["tokens"][:-1] * slopes["probes"][target]).sum((0, 2))[-16:]
        scores += (params["position_embedding"] * slopes["position_embedding"][target]).sum(-1)[-16:]
        scores += (parts["patch_embedding"]["bias"] * slopes["patch_embedding"]["bias"][target]).sum(-1)
        if config.final_norm == "tokens":
            scores += (parts["final_norm"]["bias"] * slopes["final_norm"]["bias"][target]).sum(-1)[-16:]
        for block, slope in zip(parts["blocks"], slopes["blocks"], strict=True):
            for leaf, (path, part) in zip(jax.tree.leaves(slope), jax.tree_util.tree_leaves_with_path(block), strict=True):
                if path[-1].key == "bias":
                    scores += (part * leaf[target]).sum(-1)[-16:]
        pixels = (values["image"] * slopes["image"][target]).sum(-1)
        expected = pixels + np.repeat(np.repeat(np.asarray(scores).reshape(4, 4), 4, 0), 4, 1) / 16
        np.testing.assert_allclose(maps[target], expected, rtol=1e-9, atol=1e-13)


def relation_of_parts(values, method):
    return np.asarray(method(values["model"], values["image"][None], [TARGETS], raw=True))[0]


def test_every_layer_counts_once(x64):
    """With all operators frozen each layer's tokens and the terms behind it make up the logit: the map's total is the image's part,
    depth times a logit less what is behind, and the biases'. Without prefix tokens nothing else has a place."""
    values = twin("average")
    model, image = values["model"], values["image"]
    for target in TARGETS:
        total = float(FullGradPlus("effective", upsampling="nearest")(model, image[None], [target], raw=True).sum())
        parts = dave.bias_contributions(model, image, target)
        behind = parts.per_block
        after = sum(float(parts.terms[name]) for name in ("head/bias", "final_norm/bias"))
        inputs = sum(float(parts.logit) - after - float(behind[index:].sum()) for index in range(2))
        assert total == pytest.approx(float(parts.image) + inputs + float(parts.place.sum()), rel=1e-9)


def test_image_term(x64):
    """Without depth there is the image alone: what remains when tokens' and biases' terms, constant on a patch, are taken away."""
    values = twin("class")
    full, plain = (relation_of_parts(values, method) for method in (FullGradPlus(upsampling="nearest"), InputTimesGradient()))
    rest = (full - plain).reshape(2, 4, 4, 4, 4)
    np.testing.assert_allclose(rest, np.broadcast_to(rest[:, :, :1, :, :1], rest.shape), atol=1e-13)
    assert np.abs(rest).max() > 1e-3 * np.abs(plain).max()


def test_the_place_of_a_bias_does_not_depend_on_depth(x64):
    """A bias of query norms is one of blocks, even in a network deeper than it has patches."""
    model = vit_twin.random_model(image_size=(8, 4), depth=3, query_key_norm=True, pooling="avg", class_token=False)
    image = vit_twin.random_image(np.float64, 8, 4, 3)
    parts = dave.bias_contributions(model, image, 0)
    after = float(parts.terms["head/bias"])
    placed = dataclasses.replace(parts, terms={name: term for name, term in parts.terms.items() if name != "head/bias"})
    assert float(parts.place.sum()) == pytest.approx(float(placed.total), rel=1e-9) and after != 0.0


def test_cases_are_those_of_the_twin():
    assert set(CASES) == {"class", "average", "map", "both"} and relation is not None
