"""ConvNeXt (arXiv 2201.03545) and ConvNeXt V2 (arXiv 2301.00808), with the options of timm's `ConvNeXt`.

    image -> stem -> stage: blocks -> (norm, convolution with stride 2) -> stage -> ... -> average -> norm -> head -> logits

One example at a time; a stage's blocks are stacked on a leading axis and run under `lax.scan`.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.feature_maps import Step, convolution, deviation_norm, global_average, in_turn, response_norm
from dave_jax.effective.operators import Operator
from dave_jax.models.convnext_config import ConvNeXtConfig, Params
from dave_jax.models.network import Network


@dataclasses.dataclass(frozen=True)
class ConvNeXt(Network):
    """The forward pass of a configuration: a hashable function of parameters and an image of any size from `config.stride` on.

    Example:
        >>> from dave_jax.models.convnext_config import init_params
        >>> config = ConvNeXtConfig(depths=(1, 2), widths=(8, 16), kernel_sizes=(7, 7), num_classes=3)
        >>> ConvNeXt(config)(init_params(jax.random.key(0), config), jax.numpy.zeros((16, 24, 3))).shape
        (3,)
    """

    config: ConvNeXtConfig

    def operators(
        self, params: Params, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them.

        Returns:
            Logits, and a dict: `stem` (image to map), `stages` (for each a dict: `blocks`, the branches' operators, their arrays stacked on
            a leading axis, a block being I + branch; and but for the first stage `downsample`, which goes before) and `head` (map to
            logits).
        """
        rules = resolve(decomposition)
        x, stem = self.stem(params["stem"], image, rules)
        stages = []
        for index in range(len(self.config.depths)):
            stage, operators = params["stages"][str(index)], {}
            if index:
                x, operators["downsample"] = self.downsample(stage["downsample"], x, rules)
            block = partial(self.block, rules=rules, padding=self.config.kernel_sizes[index] // 2)
            x, operators["blocks"] = jax.lax.scan(lambda x, params, block=block: block(params, x), x, stage["blocks"])
            stages.append(operators)
        logits, head = self.head(params, x, rules)
        return logits, {"stem": stem, "stages": stages, "head": head}

    def stem(self, params: Params, image: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The map before the first stage, and the operator from the image to it."""
        config = self.config
        if image.ndim != 3 or image.shape[-1] != 3 or min(image.shape[:2]) < config.stride:
            raise ValueError(
                f"The model takes images of shape (h, w, 3) from {config.stride} x {config.stride} pixels on; got {image.shape}. "
                "Enlarge the image (model.preprocess, or load the model with image_size=(height, width))."
            )
        stride, padding = (config.patch_size, 0) if config.stem == "patch" else (2, 1)
        steps: list[Step] = [partial(convolution, params["conv1"], decomposition=rules, stride=stride, padding=padding, site="embedding")]
        if config.stem == "overlap_act":
            steps.append(partial(layers.activation, decomposition=rules, name=config.activation))
        if config.stem != "patch":
            steps.append(partial(convolution, params["conv2"], decomposition=rules, stride=stride, padding=padding))
        return in_turn(image, [*steps, self._norm(params["norm"], rules)])

    def downsample(self, params: Params, x: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The map at half the height and width, and the operator to it."""
        return in_turn(x, [self._norm(params["norm"], rules), partial(convolution, params["conv"], decomposition=rules, stride=2)])

    def _norm(self, params: Params, rules: Decomposition, eps: float | None = None) -> Step:
        options: dict[str, Any] = {"decomposition": rules, "eps": eps or self.config.eps}
        if self.config.norm == "deviation_norm":
            return partial(deviation_norm, params, **options)
        return partial(layers.norm, params, **options)

    def block(self, params: Params, x: Array, rules: Decomposition, *, padding: int) -> tuple[Array, Operator]:
        """`x + scale(fc2(phi(fc1(norm(conv(x))))))`, V2 with its norm before fc2; and the branch's operator."""
        config, width = self.config, x.shape[-1]
        steps: list[Step] = [
            partial(convolution, params["conv"], decomposition=rules, padding=padding, groups=width),
            self._norm(params["norm"], rules),
            partial(layers.dense, params["fc1"], decomposition=rules),
            partial(layers.activation, decomposition=rules, name=config.activation),
        ]
        if config.response_norm:
            steps.append(partial(response_norm, params["response_norm"], decomposition=rules))
        steps.append(partial(layers.dense, params["fc2"], decomposition=rules))
        if config.layer_scale:
            steps.append(partial(layers.layer_scale, params["layer_scale"]))
        y, branch = in_turn(x, steps)
        return rules.residual(x, y), branch

    def head(self, params: Params, x: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The logits from the map after the last stage, and the operator from it to them."""
        config = self.config
        steps: list[Step] = [global_average]
        steps.insert(0 if config.final_norm == "positions" else 1, self._norm(params["final_norm"], rules, config.final_eps))
        if config.head_width:
            steps += [
                partial(layers.dense, params["head_hidden"], decomposition=rules),
                partial(layers.activation, decomposition=rules, name="gelu"),
            ]
        if config.num_classes:
            steps.append(partial(layers.dense, params["head"], decomposition=rules))
        pooled, op = in_turn(x, steps)
        return pooled[0], op
