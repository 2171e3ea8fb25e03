"""A plain PyTorch reference: timm's networks with every operator that depends on the image held constant.

`frozen(model)` is a deep copy in which each layer of the kinds below becomes an instance of a subclass whose `forward` detaches the
operator; the model that came is untouched. The gradient of the copy is the effective transformation, its values are the model's.

    LayerNorm, RmsNorm    1 / sigma detached, the mean kept; also over the channels of maps
    GlobalResponseNorm    the ratio of norms detached
    activations           the multiplier phi(x) / x detached, in closed form
    Attention, its pool   softmax(q k^T / sqrt(c)) detached
    SwiGLU, GluMlp        the gate detached
    WindowAttention       softmax detached, and with it relative positions, masks and V2's lengths
"""

import copy
import math

import timm.layers
import torch
from timm.layers import activations
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from timm.layers.grn import GlobalResponseNorm
from timm.models import convnext, resnet, swin_transformer, swin_transformer_v2
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


class _LayerNorm(timm.layers.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        sigma = (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return centred / sigma.detach() * self.weight + self.bias


class _RmsNorm(timm.layers.RmsNorm):
    def forward(self, x: Tensor) -> Tensor:
        root = (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return x / root.detach() * self.weight


class _LayerNorm2d(_LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _RmsNorm2d(_RmsNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ResponseNorm(GlobalResponseNorm):
    def forward(self, x: Tensor) -> Tensor:
        size = x.square().sum(self.spatial_dim, keepdim=True).sqrt()
        ratio = (size / (size.mean(self.channel_dim, keepdim=True) + self.eps)).detach()
        return x + x * ratio * self.weight.view(self.wb_shape) + self.bias.view(self.wb_shape)


class _Gelu(nn.GELU):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.special.ndtr(x).detach()


class _GeluTanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (0.5 + 0.5 * torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))).detach()


class _QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x).detach()


class _Silu(nn.SiLU):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x).detach()


class _Relu(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 0).to(x.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1).detach()
    return (weights @ value).transpose(1, 2).flatten(2)


def _heads(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


class _Attention(timm.layers.Attention):
    def forward(self, x: Tensor, **_) -> Tensor:
        query, key, value = (_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, -1))
        return self.proj(self.norm(_attend(self.q_norm(query), self.k_norm(key), value)))


class _AttentionPool(timm.layers.AttentionPoolLatent):
    def forward(self, x: Tensor, **_) -> Tensor:
        query = _heads(self.q(self.latent).expand(len(x), -1, -1), self.num_heads)
        key, value = (_heads(part, self.num_heads) for part in self.kv(x).chunk(2, -1))
        y = self.proj(_attend(query, key, value))
        return (y + self.mlp(self.norm(y)))[:, 0]


class _SwiGlu(timm.layers.SwiGLU):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.act(self.fc1_g(x)).detach() * self.fc1_x(x)))


class _GluMlp(timm.layers.GluMlp):
    def forward(self, x: Tensor) -> Tensor:
        first, second = self.fc1(x).chunk(2, -1)
        gate, hidden = (second, first) if self.gate_last else (first, second)
        return self.fc2(self.norm(self.act(gate).detach() * hidden))


def _in_windows(attention: nn.Module, scores: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """From scores (windows of all images, heads, n, n): softmax detached, times the values, projected."""
    if mask is not None:
        scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
    return attention.proj((torch.softmax(scores, -1).detach() @ value).transpose(1, 2).flatten(2))


class _WindowAttention(swin_transformer.WindowAttention):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, -1))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return _in_windows(self, scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1), value, mask)


class _WindowAttentionV2(swin_transformer_v2.WindowAttention):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        biases = [None] * 3 if self.q_bias is None else [self.q_bias, None, self.v_bias]
        each = zip(self.qkv.weight.chunk(3), biases, strict=True)
        query, key, value = (_heads(nn.functional.linear(x, weight, bias), self.num_heads) for weight, bias in each)
        cosines = torch.cosine_similarity(query[..., :, None, :], key[..., None, :, :], dim=-1, eps=1e-12)
        scores = cosines * self.logit_scale.exp().clamp(max=100.0)
        table = 16 * torch.sigmoid(self.cpb_mlp(self.relative_coords_table)).flatten(0, 2)
        return _in_windows(self, scores + table[self.relative_position_index].permute(2, 0, 1), value, mask)


_FROZEN: dict[type, type] = {
    nn.LayerNorm: _LayerNorm,
    timm.layers.LayerNorm: _LayerNorm,
    timm.layers.RmsNorm: _RmsNorm,
    timm.layers.LayerNorm2d: _LayerNorm2d,
    timm.layers.RmsNorm2d: _RmsNorm2d,
    GlobalResponseNorm: _ResponseNorm,
    timm.layers.Attention: _Attention,
    timm.layers.AttentionPoolLatent: _AttentionPool,
    swin_transformer.WindowAttention: _WindowAttention,
    swin_transformer_v2.WindowAttention: _WindowAttentionV2,
    timm.layers.SwiGLU: _SwiGlu,
    timm.layers.GluMlp: _GluMlp,
    nn.GELU: _Gelu,
    activations.GELU: _Gelu,
    activations.GELUTanh: _GeluTanh,
    activations.QuickGELU: _QuickGelu,
    nn.SiLU: _Silu,
    nn.ReLU: _Relu,
}
_LINEAR = (
    *(nn.Linear, nn.Conv2d, nn.Identity, nn.Dropout, timm.layers.DropPath, timm.layers.LayerScale),
    *(nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, FastAdaptiveAvgPool),  # the reference is in eval mode
)
_CONTAINERS = (
    *(nn.Sequential, timm.layers.PatchEmbed, timm.layers.Mlp, Block, VisionTransformer, VisionTransformerDistilled),
    *(convnext.ConvNeXt, convnext.ConvNeXtStage, convnext.ConvNeXtBlock, timm.layers.GlobalResponseNormMlp),
    *(timm.layers.NormMlpClassifierHead, timm.layers.ClassifierHead, timm.layers.SelectAdaptivePool2d),
    *(resnet.ResNet, resnet.BasicBlock, resnet.Bottleneck, nn.ModuleList),
    *(swin_transformer.SwinTransformer, swin_transformer.SwinTransformerStage),
    *(swin_transformer.SwinTransformerBlock, swin_transformer.PatchMerging),
    *(swin_transformer_v2.SwinTransformerV2, swin_transformer_v2.SwinTransformerV2Stage),
    *(swin_transformer_v2.SwinTransformerV2Block, swin_transformer_v2.PatchMerging),
    nn.Softmax,  # timm's windows attend by themselves, above
)


def frozen(model: nn.Module) -> nn.Module:
    """A deep copy of the model whose gradient is its effective transformation.

    Raises:
        TypeError: the model holds a module of a kind that this reference does not know.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        kind = type(module)
        if kind in _FROZEN:
            module.__class__ = _FROZEN[kind]
        elif kind not in _LINEAR and kind not in _CONTAINERS:
            raise TypeError(f"the reference knows {sorted(known.__name__ for known in _FROZEN)} and linear layers; got a {kind.__name__}")
    return model


def logits_and_gradient(model: nn.Module, images: Tensor, cotangents: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (b, classes) of images (b, 3, h, w), and the gradient of `sum(cotangents * logits)` for the images."""
    images = images.detach().clone().requires_grad_(True)
    logits = model(images)
    (gradient,) = torch.autograd.grad((logits * cotangents).sum(), images)
    return logits.detach(), gradient


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Give every parameter a random value of a size that keeps activations near one: norms, biases, tokens and running averages too."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("_token", "pos_embed", "latent")):
            value = 0.5 * noise
        elif parameter.ndim > 1:
            value = noise / math.sqrt(math.prod(parameter.shape[1:]))
        else:
            value = 0.2 * noise if name.endswith("bias") else 1.0 + 0.3 * noise
        parameter.data.copy_(value)
    for name, buffer in sorted(model.named_buffers()):
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.eval()


def with_exact_coordinates(model: nn.Module) -> nn.Module:
    """The model with Swin V2's coordinates, which timm computes in single precision and keeps, in double precision."""
    for module in model.modules():
        if hasattr(module, "relative_coords_table"):
            axes = []
            trained = module.pretrained_window_size if module.pretrained_window_size[0] else module.window_size
            for edge, whole in zip(module.window_size, trained, strict=True):
                far = 8 * torch.arange(1 - edge, edge, dtype=torch.float64) / max(whole - 1, 1)
                axes.append(far.sign() * (far.abs() + 1).log2() / 3)
            exact = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]
            torch.testing.assert_close(module.relative_coords_table.double(), exact, rtol=0, atol=1e-6)
            module.relative_coords_table = exact
    return model
