"""As in MobileNetV3 (Howard et al. 2019, arXiv 1905.02244): inverted residuals with depthwise convolutions, batch norm with its running
averages, hard swish, and squeeze-and-excite with a hard sigmoid."""

import jax
from networks.parts import Draws, dense

NAMES = ("NHWC", "HWIO", "NHWC")
BLOCKS = [(6, 12, 6, 1), (6, 12, 8, 2), (8, 16, 8, 1)]
"""(channels, expanded, channels after, stride)."""


def draw_params():
    draw = Draws(8)

    def convolution(*shape):
        width = shape[-1]
        return {"kernel": draw(*shape), "mean": 0.3 * draw(width), "variance": draw.positive(width), **draw.norm(width)}

    def block(before, expanded, after):
        return {
            "expand": convolution(1, 1, before, expanded),
            "depthwise": convolution(3, 3, 1, expanded),
            "squeeze": draw.dense(expanded, 4),
            "excite": draw.dense(4, expanded),
            "project": convolution(1, 1, expanded, after),
        }

    return {
        "stem": convolution(3, 3, 3, 6),
        "blocks": [block(*sizes[:3]) for sizes in BLOCKS],
        "last": convolution(1, 1, 8, 12),
        "head": draw.dense(12, 5),
    }


def convolution(params, x, stride=1):
    groups = x.shape[-1] // params["kernel"].shape[2]
    window = (stride, stride)
    y = jax.lax.conv_general_dilated(x[None], params["kernel"], window, "SAME", dimension_numbers=NAMES, feature_group_count=groups)[0]
    mean, variance, scale, bias = (params[name][None, None] for name in ("mean", "variance", "scale", "bias"))
    return (y - mean) * jax.lax.rsqrt(variance + 1e-3) * scale + bias


def inverted_residual(params, x, stride):
    y = jax.nn.hard_swish(convolution(params["expand"], x))
    y = jax.nn.hard_swish(convolution(params["depthwise"], y, stride))
    gate = dense(params["excite"], jax.nn.relu(dense(params["squeeze"], y.mean((0, 1)))))
    y = convolution(params["project"], y * jax.nn.hard_sigmoid(gate)[None, None])
    return x + y if x.shape == y.shape else y


def forward(params, image):
    x = jax.nn.hard_swish(convolution(params["stem"], image, 2))
    for one, (_, _, _, stride) in zip(params["blocks"], BLOCKS, strict=True):
        x = inverted_residual(one, x, stride)
    return dense(params["head"], jax.nn.hard_swish(convolution(params["last"], x)).mean((0, 1)))
