"""ResNet (arXiv 1512.03385) and its kin: ResNeXt, Wide ResNet, ResNet-C and -D, SE-ResNet, ECA-ResNet; batch norm in inference.

    image -> stem -> max pool -> stage: blocks -> ... -> average -> head -> logits

One example at a time; but for a stage's first block, which has the stride, its blocks are stacked on a leading axis and run under
`lax.scan`. The stride is that of the convolution of 3 x 3, as in torchvision and timm.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.feature_maps import Step, average_pool, batch_norm, channel_gate, convolution, global_average, in_turn, max_pool
from dave_jax.effective.operators import Chain, Identity, Operator, Sum
from dave_jax.models.network import Network
from dave_jax.models.resnet_config import Params, ResNetConfig


@dataclasses.dataclass(frozen=True)
class ResNet(Network):
    """The forward pass of a configuration: a hashable function of parameters and an image of any size.

    Example:
        >>> from dave_jax.models.resnet_config import init_params
        >>> config = ResNetConfig(blocks=("basic",) * 2, depths=(1, 3), widths=(8, 16), stem_widths=(8,), num_classes=3)
        >>> ResNet(config)(init_params(jax.random.key(0), config), jax.numpy.zeros((16, 24, 3))).shape
        (3,)
    """

    config: ResNetConfig

    def operators(
        self, params: Params, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them.

        Returns:
            Logits, and a dict: `stem` (image to map), `stages` (for each a dict: `first`, the first block's operator, and where there are
            more `blocks`, those of the others, their arrays stacked on a leading axis) and `head` (map to logits).
        """
        rules = resolve(decomposition)
        x, stem = self.stem(params, image, rules)
        stages = []
        for index in range(len(self.config.depths)):
            stage, operators = params["stages"][str(index)], {}
            block = partial(self.block, rules=rules, groups=1 if self.config.blocks[index] == "basic" else self.config.groups)
            x, operators["first"] = block(stage["first"], x, stride=self.config.stride(index))
            if "blocks" in stage:
                x, operators["blocks"] = jax.lax.scan(lambda x, params, block=block: block(params, x), x, stage["blocks"])
            stages.append(operators)
        logits, head = self.head(params, x, rules)
        return logits, {"stem": stem, "stages": stages, "head": head}

    def stem(self, params: Params, image: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The map before the first stage, and the operator from the image to it."""
        if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise ValueError(f"The model takes images of shape (h, w, 3); got {image.shape}. Call it on one image, channels last.")
        steps: list[Step] = []
        for i in range(1, len(self.config.stem_widths) + 1):
            steps += self._layer(params["stem"], i, rules, stride=2 if i == 1 else 1, site="embedding" if i == 1 else "linear")
            steps.append(partial(layers.activation, decomposition=rules, name=self.config.activation))
        if self.config.stem_pool == "max":
            steps.append(partial(max_pool, window=3, stride=2, padding=1))
        else:
            pool = params["stem_pool"]
            steps.append(partial(convolution, pool["conv"], decomposition=rules, stride=2, padding=1))
            steps.append(partial(batch_norm, pool["norm"], eps=self.config.eps))
            steps.append(partial(layers.activation, decomposition=rules, name=self.config.activation))
        return in_turn(image, steps)

    def _layer(self, params: Params, i: int, rules: Decomposition, **options: Any) -> list[Step]:
        """The i-th convolution of a block or stem, which keeps the size but for its stride, and its norm."""
        conv, norm = params[f"conv{i}"], params[f"norm{i}"]
        padding = conv["kernel"].shape[0] // 2
        return [
            partial(convolution, conv, decomposition=rules, padding=padding, **options),
            partial(batch_norm, norm, eps=self.config.eps),
        ]

    def block(self, params: Params, x: Array, rules: Decomposition, *, groups: int, stride: int = 1) -> tuple[Array, Operator]:
        """`phi(shortcut(x) + branch(x))`, and the block's operator."""
        activation = partial(layers.activation, decomposition=rules, name=self.config.activation)
        if "conv3" in params:
            steps = [*self._layer(params, 1, rules), activation, *self._layer(params, 2, rules, stride=stride, groups=groups), activation]
            steps += self._layer(params, 3, rules)
        else:
            steps = [*self._layer(params, 1, rules, stride=stride), activation, *self._layer(params, 2, rules)]
        if "gate" in params:
            steps.append(partial(channel_gate, params["gate"], decomposition=rules))
        y, branch = in_turn(x, steps)
        kept, shortcut = self.shortcut(params["shortcut"], x, rules, stride) if "shortcut" in params else (x, Identity(x.shape))
        y, op = activation(rules.residual(kept, y))
        return y, Chain((Sum((shortcut, branch)), op))

    def shortcut(self, params: Params, x: Array, rules: Decomposition, stride: int) -> tuple[Array, Operator]:
        """The projection of a block's input to the shape of its output."""
        steps: list[Step] = []
        if self.config.average_down and stride > 1:
            steps.append(partial(average_pool, window=stride))
            stride = 1
        steps.append(partial(convolution, params["conv"], decomposition=rules, stride=stride))
        return in_turn(x, [*steps, partial(batch_norm, params["norm"], eps=self.config.eps)])

    def head(self, params: Params, x: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The logits from the map after the last stage, and the operator from it to them."""
        steps: list[Step] = [global_average]
        if self.config.num_classes:
            steps.append(partial(layers.dense, params["head"], decomposition=rules))
        pooled, op = in_turn(x, steps)
        return pooled[0], op
