"""Small convolutional networks with random parameters, and plain twins of them: the papers' equations, without our layers."""

import jax
import jax.numpy as jnp
import numpy as np

from dave_jax.config import DaveConfig
from dave_jax.models.convnext_config import ConvNeXtConfig
from dave_jax.models.families import FAMILIES
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.resnet_config import ResNetConfig

SIZE = (22, 27)
"""No multiple of any stride."""

CONFIGS = {
    "resnet": ResNetConfig(("basic",) * 2, (1, 3), (6, 8), stem_widths=(6,), num_classes=5),
    "resnet_d": ResNetConfig(
        ("bottleneck",) * 2,
        (1, 2),
        (4, 8),
        groups=2,
        base_width=32,
        stem_widths=(3, 4, 6),
        average_down=True,
        gate="squeeze",
        activation="silu",
        num_classes=5,
    ),
    "convnext": ConvNeXtConfig((1, 2), (6, 8), (3, 3), stem="overlap_act", head_width=7, num_classes=5),
    "convnextv2": ConvNeXtConfig((1, 2), (6, 8), (3, 3), response_norm=True, layer_scale=False, final_norm="positions", num_classes=5),
}


def random_params(family: str, config, seed: int = 0):
    """Of which no two are alike: norms, running averages and biases too."""
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: FAMILIES[family].init_params(key, config), jax.random.key(0))

    def make(path, leaf):
        noise, name = draw.standard_normal(leaf.shape), path[-1].key
        if name == "kernel":
            return noise / np.prod(leaf.shape[-4:-1] if "conv" in path[-2].key else leaf.shape[-2:-1]) ** 0.5
        return {"scale": 1 + 0.3 * noise, "running_variance": 0.5 + noise**2}.get(name, 0.3 * noise)

    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(make(path, leaf), float), shapes)


def model(name: str) -> Model:
    """One of `CONFIGS`, in the precision of the moment."""
    family = name.removesuffix("_d").removesuffix("v2")
    return Model(
        params=random_params(family, CONFIGS[name]),
        forward=FAMILIES[family].network(CONFIGS[name]),
        config=DaveConfig(num_samples=2, noise_alpha=0.5),
        preprocessing=Preprocessing(image_size=SIZE),
        name=name,
    )


def image() -> jax.Array:
    return jnp.asarray(np.random.default_rng(5).standard_normal((*SIZE, 3)), float)


def _conv(params, x, stride=1, padding=0, groups=1):
    kernel = params["kernel"]
    pad = ((padding, padding),) * 2
    numbers = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x[None], kernel, (stride,) * 2, pad, dimension_numbers=numbers, feature_group_count=groups)[0]
    return y + params["bias"][None, None] if "bias" in params else y


def _dense(params, x):
    return jnp.einsum("...i,io->...o", x, params["kernel"]) + params["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def _activation(name):
    return {"gelu": lambda x: jax.nn.gelu(x, approximate=False), "relu": jax.nn.relu, "silu": jax.nn.silu}[name]


def _layer_norm(params, x, eps):
    normal = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + eps)
    return normal * params["scale"].reshape((1,) * (x.ndim - 1) + (-1,)) + params["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def _blocks(stacked):
    depth = len(jax.tree.leaves(stacked)[0]) if stacked else 0
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(depth)]


def plain_resnet(config: ResNetConfig, params, x):
    act = _activation(config.activation)

    def norm(p, x):
        p = {name: leaf[None, None] for name, leaf in p.items()}
        return (x - p["running_mean"]) / jnp.sqrt(p["running_variance"] + config.eps) * p["scale"] + p["bias"]

    def block(p, x, kind, stride):
        if kind == "basic":
            y = act(norm(p["norm1"], _conv(p["conv1"], x, stride, 1)))
            y = norm(p["norm2"], _conv(p["conv2"], y, 1, 1))
        else:
            y = act(norm(p["norm1"], _conv(p["conv1"], x)))
            y = act(norm(p["norm2"], _conv(p["conv2"], y, stride, 1, config.groups)))
            y = norm(p["norm3"], _conv(p["conv3"], y))
        if "gate" in p:
            y = y * jax.nn.sigmoid(_dense(p["gate"]["fc2"], jax.nn.relu(_dense(p["gate"]["fc1"], y.mean((0, 1), keepdims=True)))))
        if "shortcut" in p:
            if config.average_down and stride == 2:
                total, count = (jax.lax.reduce_window(a, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "SAME") for a in (x, jnp.ones_like(x)))
                x, stride = total / count, 1
            x = norm(p["shortcut"]["norm"], _conv(p["shortcut"]["conv"], x, stride))
        return act(x + y)

    stem = params["stem"]
    for i in range(1, len(config.stem_widths) + 1):
        edge = stem[f"conv{i}"]["kernel"].shape[0]
        x = act(norm(stem[f"norm{i}"], _conv(stem[f"conv{i}"], x, 2 if i == 1 else 1, edge // 2)))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3, 3, 1), (2, 2, 1), ((1, 1), (1, 1), (0, 0)))
    for index, kind in enumerate(config.blocks):
        stage = params["stages"][str(index)]
        x = block(stage["first"], x, kind, 2 if index else 1)
        for p in _blocks(stage.get("blocks")):
            x = block(p, x, kind, 1)
    return _dense(params["head"], x.mean((0, 1)))


def plain_convnext(config: ConvNeXtConfig, params, x):
    act, eps, stem = _activation(config.activation), config.eps, params["stem"]
    if config.stem == "patch":
        x = _conv(stem["conv1"], x, 4)
    else:
        x = _conv(stem["conv2"], act(_conv(stem["conv1"], x, 2, 1)), 2, 1)
    x = _layer_norm(stem["norm"], x, eps)
    for index, edge in enumerate(config.kernel_sizes):
        stage = params["stages"][str(index)]
        if index:
            x = _conv(stage["downsample"]["conv"], _layer_norm(stage["downsample"]["norm"], x, eps), 2)
        for p in _blocks(stage["blocks"]):
            y = act(_dense(p["fc1"], _layer_norm(p["norm"], _conv(p["conv"], x, 1, edge // 2, x.shape[-1]), eps)))
            if config.response_norm:
                size = jnp.sqrt((y**2).sum((0, 1), keepdims=True))
                ratio = size / (size.mean(-1, keepdims=True) + 1e-6)
                y = y + p["response_norm"]["scale"][None, None] * (y * ratio) + p["response_norm"]["bias"][None, None]
            y = _dense(p["fc2"], y)
            x = x + (y * p["layer_scale"]["scale"][None, None] if config.layer_scale else y)
    if config.final_norm == "positions":
        x = _layer_norm(params["final_norm"], x, eps).mean((0, 1))
    else:
        x = _layer_norm(params["final_norm"], x.mean((0, 1)), eps)
    if config.head_width:
        x = jax.nn.gelu(_dense(params["head_hidden"], x), approximate=False)
    return _dense(params["head"], x)


def plain(name: str):
    """The twin of `model(name)`: a function of parameters and image."""
    function = plain_resnet if isinstance(CONFIGS[name], ResNetConfig) else plain_convnext
    return lambda params, x: function(CONFIGS[name], params, x)
