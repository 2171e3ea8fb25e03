"""A Keras model as ours."""

from collections.abc import Callable
from typing import Any

from zoo_checks import fields

import dave_jax as dave


def model(make: Callable[[], Any], size: int, inputs: Callable[[Any], Any] = lambda images: images, logits: Any = lambda y: y[0]) -> Any:
    """`make()`, in inference, as a function of its variables and an image; variables go by their paths, so that variances are known."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    network = make()

    names = {id(variable): f"{i}/{variable.path}" for i, variable in enumerate(network.variables)}  # paths alone may repeat

    def call(values: Any, image: Any) -> Any:
        trained, others = ([values[names[id(v)]] for v in part] for part in (network.trainable_variables, network.non_trainable_variables))
        return logits(network.stateless_call(trained, others, inputs(image[None]), training=False)[0])

    return dave.Model.from_function(call, {names[id(v)]: v.value for v in network.variables}, **fields(size))
