import jax
import jax.numpy as jnp

from dave_jax.attribution import chunk
from dave_jax.effective.decomposition import effective, gradient
from dave_jax.testing import tiny_model


def test_chunks_divide_where_they_can():
    assert [chunk.choose_chunk(samples, 100, 8) for samples in (1, 6, 7, 50, 100, 11)] == [1, 6, 7, 5, 5, 6]
    assert chunk.choose_chunk(50, 3, 8) == 2
    assert chunk.choose_chunk(50, 0, 8) == 1


def test_memory_grows_with_the_model_and_falls_with_freezing():
    small, large = tiny_model(), tiny_model(depth=6, mlp_width=128)
    image = jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)
    size = lambda model, rules: chunk.sample_bytes(model.forward, model.params, image, rules, 1)
    assert size(large, effective) > 2 * size(small, effective) > 0
    assert size(small, gradient) > size(small, effective)


def test_little_memory_means_a_small_chunk(monkeypatch):
    model = tiny_model()
    arguments = (model.forward, model.params, (16, 16, 3), effective, 8, 1)
    assert chunk.default_chunk(*arguments) == 4
    image = jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)
    each = chunk.sample_bytes(model.forward, model.params, image, effective, 1)
    monkeypatch.setattr(chunk, "device_memory", lambda platform: int(2.5 * each / chunk.SHARE))
    assert chunk.default_chunk(*arguments) == 2
