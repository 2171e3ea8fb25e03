"""Other people's models run as their users run them: without the strictness of our own tests, and here in double precision."""

import jax
import pytest


@pytest.fixture(autouse=True)
def as_users_run_them():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(True):
        yield
