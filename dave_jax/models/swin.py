"""Swin (arXiv 2103.14030) and Swin V2 (arXiv 2111.09883), with the options of timm's `SwinTransformer` and `SwinTransformerV2`.

    image -> patches -> norm -> stage: blocks -> (merging of 2 x 2 patches) -> stage -> ... -> norm -> average -> head -> logits

One example at a time; a stage's blocks are stacked on a leading axis and run under `lax.scan`, in pairs where every second one shifts its
windows.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.feature_maps import in_turn
from dave_jax.effective.operators import Operator
from dave_jax.effective.tokens import Average
from dave_jax.effective.window_attention import Windows, merge_patches, window_attention
from dave_jax.models.network import Network
from dave_jax.models.swin_config import Params, SwinConfig
from dave_jax.models.swin_positions import window_bias


@dataclasses.dataclass(frozen=True)
class Swin(Network):
    """The forward pass of a configuration: a hashable function of parameters and image.

    Example:
        >>> from dave_jax.models.swin_config import init_params
        >>> config = SwinConfig((16, 24), width=8, depths=(2, 1), num_heads=(2, 4), mlp_widths=(16, 32), windows=((2, 2),) * 2,
        ...     pretrained_windows=(0, 0), num_classes=3)
        >>> Swin(config)(init_params(jax.random.key(0), config), jax.numpy.zeros((16, 24, 3))).shape
        (3,)
    """

    config: SwinConfig

    def operators(
        self, params: Params, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them.

        Returns:
            Logits, and a dict: `embedding` (image to tokens), `stages` (for each a dict: `merge`, but for the first stage; `blocks`, for
            each of the blocks in turn, one or two, the pair of branch operators, their arrays stacked; `last`, of a block that is left
            over, in a tuple) and `head` (tokens to logits). A block is (I + mlp branch)(I + attention branch).
        """
        rules = resolve(decomposition)
        tokens, embedding = self.embed(params, image, rules)
        stages = []
        for index in range(len(self.config.depths)):
            stage, operators = params["stages"][str(index)], {}
            if index:
                tokens, operators["merge"] = self.merge(stage["merge"], tokens, rules, stage=index)
            tokens, operators["blocks"], operators["last"] = self._blocks(stage["blocks"], tokens, rules, index)
            stages.append(operators)
        logits, head = self.head(params, tokens, rules)
        return logits, {"embedding": embedding, "stages": stages, "head": head}

    def _blocks(self, params: Params, tokens: Array, rules: Decomposition, stage: int) -> tuple[Array, Any, Any]:
        """The blocks of a stage: those that take turns under `scan`, and one that may be left over."""
        cuts = self.config.cuts(stage)
        turns = 1 if cuts[0] == cuts[1] else 2
        rounds = self.config.depths[stage] // turns
        every = jax.tree.map(lambda leaf: leaf[: rounds * turns].reshape(rounds, turns, *leaf.shape[1:]), params)

        def step(tokens: Array, params: Params) -> tuple[Array, Any]:
            operators = []
            for turn in range(turns):
                one = jax.tree.map(lambda leaf, turn=turn: leaf[turn], params)
                tokens, op = self.block(one, tokens, rules, stage=stage, windows=cuts[turn])
                operators.append(op)
            return tokens, tuple(operators)

        tokens, blocks = jax.lax.scan(step, tokens, every) if rounds else (tokens, ())
        if rounds * turns == self.config.depths[stage]:
            return tokens, blocks, ()
        tokens, op = self.block(jax.tree.map(lambda leaf: leaf[-1], params), tokens, rules, stage=stage, windows=cuts[0])
        return tokens, blocks, (op,)

    def embed(self, params: Params, image: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The tokens before the first stage, and the operator from the image to them."""
        config = self.config
        if image.shape != (*config.image_size, 3):
            raise ValueError(
                f"The model takes images of shape {(*config.image_size, 3)}; got {image.shape}. "
                "Resize the image (model.preprocess), or load the model with image_size=(height, width)."
            )
        cut = partial(layers.patch_embedding, params["patch_embedding"], decomposition=rules, patch_size=config.patch_size)
        return in_turn(image, [cut, partial(layers.norm, params["patch_norm"], decomposition=rules, eps=config.eps)])

    def merge(self, params: Params, tokens: Array, rules: Decomposition, *, stage: int) -> tuple[Array, Operator]:
        """The tokens at the beginning of a stage but the first, from those at the end of the one before."""
        return merge_patches(params, tokens, rules, size=self.config.grid(stage - 1), eps=self.config.eps)

    def block(
        self, params: Params, tokens: Array, rules: Decomposition, *, stage: int, windows: Windows
    ) -> tuple[Array, tuple[Operator, Operator]]:
        """One block: `x + attention(norm(x))`, then `x + mlp(norm(x))`; V2 has the norms behind: `x + norm(attention(x))`."""
        config, operators = self.config, []
        branches = {
            "attention": partial(
                window_attention,
                decomposition=rules,
                windows=windows,
                num_heads=config.num_heads[stage],
                bias=window_bias(params["attention"], windows, pretrained=config.pretrained_windows[stage]),
            ),
            "mlp": partial(layers.mlp, decomposition=rules, activation_name=config.activation, eps=config.eps),
        }
        for name, layer in branches.items():
            steps = [partial(layer, params[name])]
            if config.version == 1:
                steps.insert(0, partial(layers.norm, params[f"{name}_norm"], decomposition=rules, eps=config.eps))
            else:
                steps.append(partial(layers.norm, params[f"{name}_post_norm"], decomposition=rules, eps=config.eps))
            y, op = in_turn(tokens, steps)
            tokens = rules.residual(tokens, y)
            operators.append(op)
        return tokens, (operators[0], operators[1])

    def head(self, params: Params, tokens: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The logits from the tokens after the last stage, and the operator from these to them."""
        steps = [partial(layers.norm, params["final_norm"], decomposition=rules, eps=self.config.eps), _average]
        if self.config.num_classes:
            steps.append(partial(layers.dense, params["head"], decomposition=rules))
        pooled, op = in_turn(tokens, steps)
        return pooled[0], op


def _average(tokens: Array) -> tuple[Array, Operator]:
    op = Average(tokens.shape)
    return op(tokens), op
