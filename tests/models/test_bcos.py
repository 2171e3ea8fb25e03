"""`BcosViT`: complete but for its three constants, explained by its six channels, at home with everything that takes a model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.bcos import BcosInherent
from dave_jax.attribution.neighbourhood import times_input
from dave_jax.effective.decomposition import resolve
from dave_jax.models.bcos import BcosViT
from dave_jax.models.bcos_config import BcosViTConfig, constants, init_params
from dave_jax.models.positions import sine_cosine_positions
from dave_jax.models.resize import at_image_size
from dave_jax.sampling.noise import add_noise
from dave_jax.sampling.samplers import Neighbour
from dave_jax.sampling.transforms import Transform, apply_transform, pull_back

SIZE = (12, 8)
SMALL = {"width": 8, "depth": 2, "num_heads": 2, "mlp_width": 12, "num_classes": 5, "temperature": 0.5}
CONFIGS = {
    "simple": BcosViTConfig(patch_size=(4, 4), **SMALL),
    "stem": BcosViTConfig(patch_size=(1, 1), stem_widths=(8, 8, 12), **SMALL),
}
CONSTANTS = ("channels/bias", "logits/bias", "position_embedding")


def model(name: str) -> dave.Model:
    """With random parameters, gains too, in the precision of the moment."""
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: init_params(key, CONFIGS[name]), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(draw.standard_normal(leaf.shape), float), shapes)
    return dave.Model(
        params=params | jax.tree.map(lambda leaf: leaf.astype(float), constants(CONFIGS[name])),
        forward=BcosViT(CONFIGS[name]),
        config=dave.DaveConfig(num_samples=2, noise_alpha=0.05),
        preprocessing=dave.Preprocessing(image_size=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        name=name,
    )


def image() -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).random((*SIZE, 3)), float)


def sum_of_pixels(image):
    return image.sum((0, 1))


@functools.cache
def everything(name: str) -> dict:
    """Of one network in double precision, by one program."""
    with jax.enable_x64(True):
        network, target = model(name), jnp.asarray(np.random.default_rng(2).standard_normal(5))

        def run(params, x):
            found = {}
            channels, _ = network.forward.channels(params, x)
            for rules in ("gradient", "effective"):
                logits, pull = jax.vjp(lambda c, rules=rules: network.forward.on_channels(params, c, rules)[0], channels)
                found[rules] = {"logits": logits, "channels": pull(target)[0]}
            _, pull, operators = jax.vjp(lambda x: network.forward.operators(params, x), x, has_aux=True)
            found["effective"]["image"] = pull(target)[0]
            product = operators["head"].transpose()(target[None])
            for index in reversed(range(2)):
                attention, mlp = jax.tree.map(lambda leaf, index=index: leaf[index], operators["blocks"])
                product = product + mlp.transpose()(product)
                product = product + attention.transpose()(product)
            product = operators["channels"].transpose()(operators["embedding"].transpose()(product))
            return found | {"seen": channels, "product": product}

        return jax.device_get({"target": target, **jax.jit(run)(network.params, image())})


@pytest.fixture(params=["simple", pytest.param("stem", marks=pytest.mark.slow)])
def name(request):
    return request.param


def test_the_effective_transformation_is_the_product_of_the_operators(name):
    found = everything(name)
    np.testing.assert_allclose(found["product"], found["effective"]["image"], rtol=0, atol=1e-12 * np.abs(found["product"]).max())
    np.testing.assert_allclose(found["effective"]["logits"], found["gradient"]["logits"], rtol=1e-13)  # of one program, fused otherwise
    difference = np.abs(found["effective"]["channels"] - found["gradient"]["channels"]).max()
    assert difference > 0.05 * np.abs(found["gradient"]["channels"]).max()


def test_the_derivative_of_the_image_is_that_of_the_channels_less_that_of_their_inverse(name, x64):
    found = everything(name)["effective"]
    np.testing.assert_allclose(found["image"], found["channels"][..., :3] - found["channels"][..., 3:], rtol=0, atol=1e-13)
    np.testing.assert_array_equal(everything(name)["seen"], np.concatenate([image(), 1 - image()], -1))


def test_completeness_but_for_the_three_constants(name, x64):
    network, found, target = model(name), everything(name), everything(name)["target"]
    assert float(dave.completeness(network, image(), target)) < 1e-12
    parts = dave.bias_contributions(network, image(), target)
    assert sorted(parts.terms) == list(CONSTANTS)
    np.testing.assert_allclose(parts.terms["channels/bias"], found["effective"]["channels"][..., 3:].sum(), rtol=1e-12)
    np.testing.assert_allclose(parts.terms["logits/bias"], -np.log(4) * target.sum(), rtol=1e-12)
    six = np.vdot(found["seen"], found["effective"]["channels"])
    np.testing.assert_allclose(parts.image + parts.terms["channels/bias"], six, rtol=1e-12)
    assert abs(float(parts.terms["position_embedding"])) > 1e-6


def test_the_inherent_map_is_that_of_the_six_channels(x64):
    network, found = model("simple"), everything("simple")
    on_channels, target = found["effective"]["channels"], found["target"]
    maps = BcosInherent()(network, image()[None], target[None], raw=True)[0]
    np.testing.assert_allclose(maps, (found["seen"] * on_channels).sum(-1), rtol=0, atol=1e-12)
    three = (image() * found["effective"]["image"]).sum(-1)  # what `InputTimesGradient("effective")` gives
    np.testing.assert_allclose(maps, three + on_channels[..., 3:].sum(-1), rtol=0, atol=1e-12)


def test_only_b_cos_networks_have_an_inherent_map():
    other = dave.Model.from_function(sum_of_pixels, preprocessing=dave.Preprocessing(image_size=SIZE))
    with pytest.raises(TypeError, match=r"explains B-cos networks.*'sum_of_pixels' is a Traced.*InputTimesGradient\('effective'\)"):
        BcosInherent()(other, image()[None], [0])


STILL = {"noise_alpha": 0.0, "flip_probability": 0.0, "rotation": 0.0, "shift": 0.0, "scale_min": 1.0, "scale_max": 1.0}


def test_explain_multiplies_by_all_six_channels(x64):
    """Without averaging its attributions are the inherent map, and complete but for two constants."""
    network, found = model("simple"), everything("simple")
    on_channels, target = found["effective"]["channels"], found["target"]
    config = dave.DaveConfig(num_samples=1, **STILL)
    raw = dave.explain(network, image()[None], target[None], key=jax.random.key(0), config=config, raw=True)[0]
    np.testing.assert_allclose(raw, (found["seen"] * on_channels).reshape(*SIZE, 2, 3).sum(-2), rtol=0, atol=1e-12)
    np.testing.assert_allclose(raw.sum(-1), BcosInherent()(network, image()[None], target[None], raw=True)[0], rtol=0, atol=1e-12)
    terms = dave.bias_contributions(network, image(), target).terms
    constants = terms["logits/bias"] + terms["position_embedding"]
    np.testing.assert_allclose(raw.sum(), np.vdot(found["effective"]["logits"], target) - constants, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adjoint", "inverse"])
def test_of_a_neighbour_the_six_channels_go_back_as_the_three_do(kind, x64):
    """The derivative for x alone is `effective_transformation`; that of the constant one is what a picture of ones has, moved as x is."""
    network, draw = model("simple"), np.random.default_rng(3)
    noise, matrix = jnp.asarray(draw.standard_normal((*SIZE, 3))), jnp.array([[0.9, 0.1, 0.4], [-0.2, 1.1, 0.3], [0.0, 0.0, 1.0]])
    rules, target, x, t = resolve("effective"), jnp.eye(5)[:1], image(), jnp.asarray(0.1)
    found = times_input(
        network.forward, rules, network.params, x, target, Neighbour(Transform(matrix), noise, t), dave.DaveConfig(pull_back=kind)
    )[0]
    three = dave.effective_transformation(network, x, 0, matrix=matrix, noise=noise, t=t, pull_back=kind)
    moved = add_noise(apply_transform(Transform(matrix), x), noise, t)
    seen = network.forward.channels(network.params, moved)[0]
    on_seen = jax.grad(lambda seen: network.forward.on_channels(network.params, seen)[0][0])(seen)
    constant = (1 - t) * pull_back(Transform(matrix), on_seen[..., 3:], kind)
    np.testing.assert_allclose(found, x * three + constant, rtol=0, atol=1e-12)
    assert float(jnp.abs(constant).max()) > 0.1 * float(jnp.abs(found).max())


@pytest.mark.slow
def test_explain():
    maps = dave.explain(model("stem"), image()[None], [2], key=jax.random.key(0))
    assert maps.shape == (1, *SIZE) and bool(jnp.isfinite(maps).all()) and float(maps.max()) == pytest.approx(1.0, rel=1e-6)
    half = dave.DaveConfig(num_samples=2, noise_alpha=0.05, precision="bfloat16")
    rounded = dave.explain(model("stem"), image()[None], [2], key=jax.random.key(0), config=half)
    assert rounded.dtype == maps.dtype and float(jnp.corrcoef(maps.ravel(), rounded.ravel())[0, 1]) > 0.9


def test_a_file(tmp_path):
    network = model("simple")
    dave.save(network, tmp_path)
    read = dave.load(tmp_path)
    assert (read.forward, read.preprocessing) == (network.forward, network.preprocessing)
    assert jax.tree.all(jax.tree.map(np.array_equal, read.params, network.params))
    wider, same = dave.load(tmp_path, image_size=(16, 20)), at_image_size(network, (16, 20))
    assert (wider.forward, wider.preprocessing) == (same.forward, same.preprocessing)
    assert jax.eval_shape(wider.forward, wider.params, jnp.ones((16, 20, 3))).shape == (5,)


def test_images_that_do_not_fit():
    network = model("simple")
    with pytest.raises(ValueError, match=r"multiple of the patch size \(4, 4\); got \(12, 9\)"):
        jax.eval_shape(network.forward, network.params, jnp.ones((12, 9, 3)))
    with pytest.raises(ValueError, match=r"images of shape \(h, w, 3\); got \(12, 0, 3\)"):
        jax.eval_shape(network.forward, network.params, jnp.ones((12, 0, 3)))


def test_sines_and_cosines():
    found = sine_cosine_positions((3, 5), 16).reshape(3, 5, 4, 4)
    for row, column, index in ((0, 0, 0), (2, 4, 3), (1, 3, 2)):
        frequency = 10000 ** (-index / 3)
        across, down = column * frequency, row * frequency
        np.testing.assert_allclose(found[row, column, :, index], [np.sin(across), np.cos(across), np.sin(down), np.cos(down)], atol=1e-7)
    np.testing.assert_array_equal(sine_cosine_positions((2, 4), 16).reshape(2, 4, 4, 4), found[:2, :4])
    with pytest.raises(ValueError, match="multiple of 4; got 6"):
        sine_cosine_positions((2, 2), 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, "width must be a multiple of 4, at least 8, for sines and cosines along two axes; got 10"),
        ({"num_heads": 3}, "num_heads must divide width; got 3 heads for width 8"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"num_classes": 10**7}, "num_classes must be at most 1000000"),
        ({"stem_widths": (4, 0)}, "stem_widths must be at least 1"),
        ({"temperature": 0.0}, "temperature must be positive; got 0.0"),
    ],
)
def test_malformed_configurations(options, message):
    with pytest.raises(ValueError, match=f"This is no B-cos vision transformer: .*{message}"):
        BcosViTConfig(**SMALL | options)


def test_strides_of_the_stem():
    assert BcosViTConfig(stem_widths=(64, 128, 128, 256)).stem_strides == (2, 2, 1, 2)
    assert BcosViTConfig(stem_widths=(6, 5)).stem_strides == (1, 1) and BcosViTConfig().stem_strides == ()
