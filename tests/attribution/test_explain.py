"""`explain`: its laws, and an independent slow version."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.inputs import image_id
from dave_jax.sampling.noise import add_noise, noise_levels
from dave_jax.sampling.transforms import apply_transform, sample_transform
from dave_jax.sampling.warp import inverse_affine, warp
from dave_jax.testing import count_compilations, tiny_model

CONFIG = dave.DaveConfig(num_samples=6, noise_alpha=0.5)
KEY = jax.random.key(7)


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(3), (3, 16, 16, 3))


@pytest.fixture
def model():
    return tiny_model()


def slow_samples(model, image, target, key, config, decomposition="effective"):
    """One sample after the other, each by plain `jax.grad`."""
    image_key = jax.random.fold_in(key, image_id(image))
    samples = []
    for i, t in enumerate(noise_levels(config.num_samples, config.noise_alpha, config.schedule)):
        transform_key, noise_key = jax.random.split(jax.random.fold_in(image_key, i))
        transform = sample_transform(transform_key, config, *image.shape[:2])
        noise = jax.random.normal(noise_key, image.shape)
        if config.pull_back == "adjoint":

            def logit(x, transform=transform, noise=noise, t=t):
                return model.forward(model.params, add_noise(apply_transform(transform, x), noise, t), decomposition)[target]

            gradient = jax.grad(logit)(image)
        else:
            moved = add_noise(apply_transform(transform, image), noise, t)
            gradient = (1 - t) * jax.grad(lambda x: model.forward(model.params, x, decomposition)[target])(moved)
            gradient = warp(gradient, inverse_affine(transform.matrix))
        samples.append(gradient * image)
    return jnp.stack(samples)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"schedule": "angle", "pull_back": "inverse"}, marks=pytest.mark.slow),
        pytest.param({"random_blur": True, "random_padding": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_equals_slow_version(model, images, changes):
    config = dataclasses.replace(CONFIG, **changes)
    raw, samples = dave.explain(model, images[:1], [2], key=KEY, config=config, raw=True, return_samples=True)
    expected = slow_samples(model, images[0], 2, KEY, config)
    scale = float(jnp.abs(expected).max())
    assert float(jnp.abs(samples[0] - expected).max()) < 1e-5 * scale
    assert float(jnp.abs(raw[0] - dave.mad_mean(samples[0])).max()) < 1e-6 * scale


@pytest.mark.slow
def test_post_processing_follows(model, images):
    heat = dave.explain(model, images, [0, 1, 2], key=KEY, config=CONFIG)
    raw = dave.explain(model, images, [0, 1, 2], key=KEY, config=CONFIG, raw=True)
    assert heat.shape == (3, 16, 16)
    assert float(jnp.abs(heat - jax.vmap(dave.postprocess)(raw)).max()) < 1e-5
    assert np.allclose(heat.max((1, 2)), 1.0) and float(heat.min()) >= 0.0


@pytest.mark.slow
def test_same_map_for_any_chunk(x64):
    """In double precision: the law is exact, and in float32 matrix products of other sizes round otherwise."""
    model = tiny_model()
    model = dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf.astype(float), model.params))
    images = jax.random.normal(jax.random.key(3), (2, 16, 16, 3))
    maps = [dave.explain(model, images, [0, 1], key=KEY, config=dataclasses.replace(CONFIG, chunk_size=chunk)) for chunk in (None, 1, 4, 6)]
    assert all(float(jnp.abs(maps[0] - other).max()) < 1e-12 for other in maps[1:])


@pytest.mark.parametrize("chunk", [1, 4, 6])
def test_same_attribution_for_any_chunk_in_float32(model, images, chunk):
    whole = dave.explain(model, images, [0, 1, 2], key=KEY, config=dataclasses.replace(CONFIG, aggregation="mean"), raw=True)
    config = dataclasses.replace(CONFIG, chunk_size=chunk, aggregation="mean")
    parts = dave.explain(model, images, [0, 1, 2], key=KEY, config=config, raw=True)
    assert float(jnp.abs(whole - parts).max()) < 1e-6 * float(jnp.abs(whole).max())


def test_same_map_in_any_batch_and_order(model, images):
    maps = dave.explain(model, images, [0, 1, 2], key=KEY, config=CONFIG)
    reverse = dave.explain(model, images[::-1], [2, 1, 0], key=KEY, config=CONFIG)
    alone = dave.explain(model, images[1:2], [1], key=KEY, config=CONFIG)
    assert float(jnp.abs(maps - reverse[::-1]).max()) < 1e-6
    assert float(jnp.abs(maps[1] - alone[0]).max()) < 1e-6


def test_key_and_image_ids_decide_the_randomness(model, images):
    same = jnp.stack([images[0], images[0]])
    maps = dave.explain(model, same, [0, 0], key=KEY, config=CONFIG)
    assert jnp.array_equal(maps[0], maps[1])
    apart = dave.explain(model, same, [0, 0], key=KEY, config=CONFIG, image_ids=jnp.array([1, 2]))
    assert float(jnp.abs(apart[0] - apart[1]).max()) > 1e-3
    other = dave.explain(model, same, [0, 0], key=jax.random.key(8), config=CONFIG)
    assert float(jnp.abs(maps - other).max()) > 1e-3


def test_several_classes_share_the_samples(model, images):
    several = dave.explain(model, images, [[0, 3], [1, 4], [2, 2]], key=KEY, config=CONFIG)
    single = dave.explain(model, images, [3, 4, 2], key=KEY, config=CONFIG)
    assert several.shape == (3, 2, 16, 16)
    assert float(jnp.abs(several[:, 1] - single).max()) < 1e-5


def test_cotangents_are_linear(model, images):
    """The mean of samples is linear in the cotangent: a contrast is a difference of maps."""
    config = dataclasses.replace(CONFIG, aggregation="mean")
    both = dave.explain(model, images, [[0, 1]] * 3, key=KEY, config=config, raw=True)
    contrast = jnp.zeros((3, 5)).at[:, 0].set(1.0).at[:, 1].set(-1.0)
    difference = dave.explain(model, images, contrast, key=KEY, config=config, raw=True)
    scale = float(jnp.abs(both).max())
    assert difference.shape == (3, 16, 16, 3)
    assert float(jnp.abs(difference - (both[:, 0] - both[:, 1])).max()) < 1e-5 * scale


@pytest.mark.slow
def test_streaming_mean_is_the_mean(model, images):
    mean = dave.explain(model, images, [0, 1, 2], key=KEY, config=dataclasses.replace(CONFIG, aggregation="mean"), raw=True)
    for chunk in (2, 4):  # 4 leaves a rest of 2
        config = dataclasses.replace(CONFIG, aggregation="streaming_mean", chunk_size=chunk)
        streamed = dave.explain(model, images, [0, 1, 2], key=KEY, config=config, raw=True)
        assert float(jnp.abs(mean - streamed).max()) < 1e-6 * float(jnp.abs(mean).max())


@pytest.mark.slow
def test_streaming_mean_holds_one_chunk():
    from dave_jax.attribution.explain import _explain
    from dave_jax.effective.decomposition import effective

    model, images = tiny_model(), jnp.ones((1, 16, 16, 3))

    def memory(num_samples, aggregation):
        config = dataclasses.replace(CONFIG, num_samples=num_samples, chunk_size=2, aggregation=aggregation)
        ids = jnp.zeros(1, jnp.uint32)
        lowered = _explain.lower(model.forward, effective, model.params, images, jnp.ones((1, 1, 5)), KEY, ids, config, False, False, None)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    grown = memory(64, "streaming_mean") - memory(8, "streaming_mean")
    assert grown < 56 * 16  # the samples' keys and levels grow with their number, not their maps
    assert memory(64, "mean") - memory(8, "mean") > 50 * 16 * 16 * 3 * 4


def test_one_still_noiseless_sample_is_input_times_effective(model, images):
    still = dave.DaveConfig(num_samples=1, noise_alpha=0.0, flip_probability=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0)
    raw = dave.explain(model, images, [0, 1, 2], key=KEY, config=still, raw=True)
    expected = [image * dave.effective_transformation(model, image, i) for i, image in enumerate(images)]
    assert float(jnp.abs(raw - jnp.stack(expected)).max()) < 1e-5 * float(jnp.abs(raw).max())


def test_floats_compile_nothing(model, images):
    dave.explain(model, images, [0, 1, 2], key=KEY, config=CONFIG)
    floats = [name for name, value in vars(CONFIG).items() if isinstance(value, float)]
    assert len(floats) >= 12
    with count_compilations() as compiled:
        for name in floats:
            dave.explain(model, images, [2, 1, 0], key=KEY, config=dataclasses.replace(CONFIG, **{name: 0.93 * getattr(CONFIG, name)}))
    assert compiled == []


def test_another_checkpoint_compiles_nothing(model, images):
    dave.explain(model, images, [0, 1, 2], key=KEY, config=CONFIG)
    other = dataclasses.replace(tiny_model(seed=5), name="other", class_names=tuple("abcde"))
    with count_compilations() as compiled:
        dave.explain(other, images, [0, 1, 2], key=KEY, config=CONFIG)
    assert "_explain" not in str(compiled)


def test_a_second_call_traces_nothing(images):
    traced = []

    def forward(params, image, decomposition):
        traced.append(decomposition)
        return jnp.stack([jnp.mean(image), jnp.max(image)])

    model = dave.Model(params=(), forward=forward, preprocessing=dave.Preprocessing((16, 16)))
    dave.explain(model, images, [0, 1, 0], key=KEY, config=CONFIG)
    first = len(traced)
    dave.explain(model, images + 1.0, [1, 0, 0], key=KEY, config=CONFIG)
    assert len(traced) == first > 0


def test_decompositions_differ(model, images):
    maps = [dave.explain(model, images, [0, 1, 2], key=KEY, config=CONFIG, decomposition=name) for name in ("effective", "gradient")]
    assert float(jnp.abs(maps[0] - maps[1]).max()) > 1e-3


def test_constant_model_gives_a_map_of_zeros(images):
    model = dave.Model(params=(), forward=lambda params, image, decomposition: jnp.ones(2), preprocessing=dave.Preprocessing((16, 16)))
    heat = dave.explain(model, images, [0, 1, 0], key=KEY, config=CONFIG)
    assert not heat.any() and bool(jnp.isfinite(heat).all())


@pytest.mark.parametrize("options", [{}, {"raw": True}, {"config": dataclasses.replace(CONFIG, smoothing=True)}], ids=str)
def test_a_broken_model_gives_no_map(model, images, options):
    broken = dataclasses.replace(model, params=model.params | {"head": jax.tree.map(lambda leaf: leaf * jnp.nan, model.params["head"])})
    assert np.isnan(dave.explain(broken, images, [0, 1, 2], key=KEY, **{"config": CONFIG} | options)).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_images_in_half_precision(model, images, dtype):
    config = dataclasses.replace(CONFIG, random_blur=True)
    options = {"key": KEY, "config": config, "image_ids": jnp.arange(3)}
    half, whole = (dave.explain(model, some, [0, 1, 2], **options) for some in (images.astype(dtype), images))
    assert half.dtype == jnp.float32
    assert np.corrcoef(half.ravel(), whole.ravel())[0, 1] > 0.9


def test_cotangents_in_half_precision(model, images):
    options = {"key": KEY, "config": CONFIG, "raw": True}
    cotangents = jnp.eye(5, dtype=jnp.bfloat16)[:3]
    assert np.array_equal(dave.explain(model, images, cotangents, **options), dave.explain(model, images, [0, 1, 2], **options))


def test_a_traced_class_is_one_for_all_images(model, images):
    explained = jax.jit(lambda target: dave.explain(model, images, target, key=KEY, config=CONFIG, raw=True))(2)
    expected = dave.explain(model, images, 2, key=KEY, config=CONFIG, raw=True)
    np.testing.assert_allclose(explained, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a | {"images": a["images"][0]}, ValueError, r"images must have shape \(b, 16, 16, 3\).*Add a batch axis"),
        (lambda a: a | {"images": a["images"][:, :8]}, ValueError, r"images must have shape \(b, 16, 16, 3\).*got \(3, 8, 16, 3\)"),
        (lambda a: a | {"images": jnp.moveaxis(a["images"], -1, 1)}, ValueError, "images must have shape"),
        (lambda a: a | {"images": a["images"][:0]}, ValueError, "b >= 1"),
        (lambda a: a | {"images": (a["images"] * 50).astype(jnp.uint8)}, TypeError, "floating point"),
        (lambda a: a | {"images": a["images"].at[1, 0, 0, 0].set(jnp.nan)}, ValueError, r"finite; images \[1\]"),
        (lambda a: a | {"targets": [0, 1]}, ValueError, r"Class ids must have shape \(3,\)"),
        (lambda a: a | {"targets": [0, 1, 5]}, ValueError, r"0 to 4.*got \[5\]"),
        (lambda a: a | {"targets": [0, 1, -1]}, ValueError, r"got \[-1\]"),
        (lambda a: a | {"targets": [0.0, 1.0, 2.0]}, ValueError, "Class ids must be integers"),
        (lambda a: a | {"targets": ["dog"] * 3}, TypeError, "class ids"),
        (lambda a: a | {"decomposition": "efective"}, ValueError, "Did you mean 'effective'"),
        (lambda a: a | {"image_ids": jnp.array([1])}, ValueError, r"image_ids must have shape \(3,\)"),
        (lambda a: a | {"image_ids": jnp.array([0.2, 0.8, 1.0])}, TypeError, "image_ids must be integers; got float32"),
        (lambda a: a | {"targets": jnp.zeros((3, 0, 5))}, ValueError, r"Cotangents must have shape .*got \(3, 0, 5\)"),
        (lambda a: a | {"targets": jnp.zeros((3, 5)).at[1, 1].set(-jnp.inf)}, ValueError, "Cotangents must be finite"),
        (
            lambda a: a | {"config": dataclasses.replace(CONFIG, aggregation="streaming_mean"), "return_samples": True},
            ValueError,
            "never holds the samples",
        ),
    ],
)
def test_bad_input(model, images, change, error, message):
    arguments = change({"images": images, "targets": [0, 1, 2], "config": CONFIG})
    with pytest.raises(error, match=message):
        dave.explain(model, arguments.pop("images"), arguments.pop("targets"), key=KEY, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrix": jnp.eye(2)}, "matrix must have shape"),
        ({"noise": jnp.ones((4, 4, 3))}, "noise must have shape"),
        ({"t": 1.5}, r"t must lie in \[0, 1\]; got 1.5"),
    ],
)
def test_bad_input_of_the_core(model, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        dave.effective_transformation(model, images[0], 0, **arguments)
    with pytest.raises(ValueError, match="one image"):
        dave.effective_transformation(model, images, 0)
