"""What running other people's models (tests/zoo) brought to light."""

import jax
import jax.numpy as jnp
import pytest

import dave_jax as dave


@pytest.mark.slow
def test_a_network_that_computes_in_half_precision_is_explained():
    """Its logits are narrower than the image; derivatives come in the image's type, to half precision's rounding."""
    kernel = jax.random.normal(jax.random.key(0), (192, 5))

    def network(dtype):
        def logits(image):
            hidden = jax.nn.gelu(image.astype(dtype).ravel() @ kernel.astype(dtype))
            return hidden @ kernel[:5].astype(dtype) + jnp.ones(5, dtype)

        preprocessing = dave.Preprocessing(image_size=(8, 8))
        return dave.Model.from_function(logits, preprocessing=preprocessing, config=dave.DaveConfig(num_samples=2))

    images = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))
    half, single = network(jnp.bfloat16), network(jnp.float32)
    slopes = [dave.effective_transformation(model, images[0], 1) for model in (half, single)]
    assert slopes[0].dtype == slopes[1].dtype == half.logits(images).dtype == jnp.float32
    assert jnp.abs(slopes[0] - slopes[1]).max() < 0.05 * jnp.abs(slopes[1]).max()  # eight bits, over two layers
    assert dave.explain(half, images, [1], key=jax.random.key(0)).shape == (1, 8, 8)
    assert dave.bias_contributions(half, images[0], 1).terms["constants"] == 1
