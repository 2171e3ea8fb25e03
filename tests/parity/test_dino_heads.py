"""Linear heads on the class tokens of the last four blocks: DINO's (arXiv 2104.14294) and DINOv2's (2304.07193), with PyTorch.

The backbone is timm's. What the head reads is written down here: the class tokens after the last four blocks, the earliest first, each
behind the network's last norm; DINOv2 puts the mean of the patches behind them.
"""

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from conv_twins import assert_close
from timm.models import save_for_hf
from torch_reference import frozen, logits_and_gradient, randomise
from vit_twins import compare

import dave_jax as dave
from dave_jax.models.heads import with_head, without_head

pytestmark = pytest.mark.parity

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 5, "num_heads": 2, "num_classes": 0}


class LastFour(torch.nn.Module):
    """A backbone and a linear classifier on its class tokens."""

    def __init__(self, backbone: torch.nn.Module, with_mean: bool):
        super().__init__()
        self.backbone, self.with_mean = backbone, with_mean
        self.linear = torch.nn.Linear((4 + with_mean) * 24, 3)

    def forward(self, images):
        states: list[torch.Tensor] = []
        hooks = [block.register_forward_hook(lambda _, inputs, output: states.append(output)) for block in self.backbone.blocks[-4:]]
        self.backbone.forward_features(images)
        for hook in hooks:
            hook.remove()
        states = [self.backbone.norm(state) for state in states]
        read = [state[:, 0] for state in states]
        if self.with_mean:
            read.append(states[-1][:, self.backbone.num_prefix_tokens :].mean(1))
        return self.linear(torch.cat(read, dim=1))


@pytest.mark.parametrize(
    ("name", "with_mean"), [("vit_small_patch16_224", False), ("vit_small_patch14_reg4_dinov2", True)], ids=["DINO", "DINOv2"]
)
def test_a_head_on_four_blocks(name, with_mean, tmp_path):
    theirs = randomise(LastFour(timm.create_model(name, **SMALL), with_mean), seed=4)
    save_for_hf(theirs.backbone, tmp_path, safe_serialization=True)
    features = without_head(dave.load(tmp_path), pooling="token_and_mean" if with_mean else "token", pooled_blocks=4)
    weight, bias = (value.detach().numpy() for value in (theirs.linear.weight, theirs.linear.bias))
    ours = with_head(features, weight.T, bias)
    compare(ours, theirs)
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = images[0].permute(1, 2, 0).numpy()
    theirs.backbone = frozen(theirs.backbone)
    _, slope = logits_and_gradient(theirs, images, torch.tensor([[0.0, 1.0, 0.0]]))
    assert_close(dave.effective_transformation(ours, image, 1), slope[0].permute(1, 2, 0), 1e-5)
    assert float(dave.completeness(ours, image, 1)) < 1e-5
