"""DAVE in PyTorch, as the authors' repository computes it: the other side of `compare_torch.py`.

One sample at a time: warp the image, add noise, run the network with its operators detached, and take the gradient back to the
clean image. Then the MAD mean over the samples, and the post-processing. Randomness is an argument, so that two programs can be given
the same samples. Images and maps are channels first, (b, 3, h, w).

Two variants give the same numbers:

    authors   what their code does: LayerNorm's mean by a product with an n x n matrix, GELU's multiplier as gelu(x) / x, queries and
              keys kept in the graph and detached after softmax, one sample a step
    tuned     what a careful user would do: the mean subtracted, attention in one fused call, everything detached computed outside the
              graph, parameters without gradients, several samples in one batch
"""

import dataclasses
import math

import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Samples:
    """The randomness of n samples of b images."""

    matrices: Tensor  # (n, b, 3, 3): pixel (x, y, 1) of the image to that of the warped image
    noise: Tensor  # (n, b, 3, h, w)
    levels: Tensor  # (n,): t


class _MatrixLayerNorm(timm.layers.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "centering"):
            size = self.normalized_shape[0]
            self.register_buffer("centering", torch.eye(size, device=x.device, dtype=x.dtype) - 1.0 / size)
        centred = x.reshape(-1, x.shape[-1]) @ self.centering
        normalised = centred * torch.rsqrt(centred.pow(2).mean(1, keepdim=True) + self.eps).detach()
        return normalised.view(x.shape) * self.weight + self.bias


class _QuotientGelu(nn.GELU):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return x * torch.where(x != 0, y / x, torch.ones_like(x)).detach()


class _DetachedAttention(timm.layers.Attention):
    def forward(self, x: Tensor, **_) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (self.q_norm(query) * self.scale) @ self.k_norm(key).transpose(-2, -1)
        mixed = scores.softmax(-1).detach() @ value
        return self.proj(self.norm(mixed.transpose(1, 2).reshape(batch, tokens, width)))


class _TunedLayerNorm(timm.layers.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        inverse_sigma = torch.rsqrt(torch.var(x.detach(), -1, correction=0, keepdim=True) + self.eps)
        return torch.addcmul(self.bias, (x - x.mean(-1, keepdim=True)) * inverse_sigma, self.weight)


class _TunedGelu(nn.GELU):
    def forward(self, x: Tensor) -> Tensor:
        multiplier = torch.erf(x.detach() * math.sqrt(0.5)).add_(1.0).mul_(0.5)
        return x * multiplier


class _TunedAttention(timm.layers.Attention):
    def forward(self, x: Tensor, **_) -> Tensor:
        batch, tokens, width = x.shape
        pairs, bias = 2 * width, self.qkv.bias
        with torch.no_grad():
            both = F.linear(x, self.qkv.weight[:pairs], None if bias is None else bias[:pairs])
            query, key = both.view(batch, tokens, 2, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
            query, key = self.q_norm(query), self.k_norm(key)
        value = F.linear(x, self.qkv.weight[pairs:], None if bias is None else bias[pairs:])
        mixed = F.scaled_dot_product_attention(query, key, value.view(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2))
        return self.proj(self.norm(mixed.transpose(1, 2).reshape(batch, tokens, width)))


def detach_operators(model: nn.Module, variant: str) -> nn.Module:
    """Change a timm vision transformer (LayerNorm, GELU) so that its input gradient is its effective transformation.

    In place, by the classes of its modules: a second copy of the weights would count as memory.
    """
    layer_norm, gelu, attention = {
        "authors": (_MatrixLayerNorm, _QuotientGelu, _DetachedAttention),
        "tuned": (_TunedLayerNorm, _TunedGelu, _TunedAttention),
    }[variant]
    kinds = {timm.layers.LayerNorm: layer_norm, nn.GELU: gelu, timm.layers.Attention: attention}
    for module in model.modules():
        module.__class__ = kinds.get(type(module), type(module))
    if variant == "tuned":
        model.requires_grad_(False)
    return model.eval()


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Affine warps, bilinear with zeros outside; a matrix takes input to output pixels, whose centres are integers."""
    height, width = images.shape[-2:]
    scale = [[2.0 / (width - 1), 0.0, -1.0], [0.0, 2.0 / (height - 1), -1.0], [0.0, 0.0, 1.0]]
    to_unit = torch.tensor(scale, dtype=torch.float64, device=images.device)  # a rounding of these few numbers would shift every pixel
    theta = to_unit @ torch.linalg.inv(matrices.double()) @ torch.linalg.inv(to_unit)
    grid = F.affine_grid(theta[:, :2].to(images.dtype), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def effective_transformations(model: nn.Module, images: Tensor, targets: Tensor, samples: Samples) -> Tensor:
    """W_eff of all samples in one batch, pulled back to the clean images: (n, b, 3, h, w)."""
    count, batch = samples.matrices.shape[:2]
    leaf = images.repeat(count, 1, 1, 1).requires_grad_(True)
    keep = (1.0 - samples.levels).repeat_interleave(batch).view(-1, 1, 1, 1)
    moved = warp(leaf, samples.matrices.flatten(0, 1))
    noisy = keep * moved + torch.sqrt(1.0 - keep.square()) * samples.noise.flatten(0, 1)
    chosen = model(noisy).gather(1, targets.repeat(count).unsqueeze(1))
    (gradient,) = torch.autograd.grad(chosen, leaf, torch.ones_like(chosen))
    return gradient.view(count, *images.shape)


def mad_mean(maps: Tensor) -> Tensor:
    """The mean over the leading axis of what lies within 2.5 robust standard deviations of the median."""
    distance = (maps - maps.median(0).values).abs()
    kept = distance <= 2.5 * (1.4826 * distance.median(0).values + 1e-8)
    return (maps * kept).sum(0) / kept.sum(0).clamp(min=1)


def _gaussian(size: int, sigma: float) -> Tensor:
    offsets = torch.arange(size) - size // 2
    kernel = torch.exp(-(offsets[:, None].square() + offsets.square()) / (2.0 * sigma**2))
    return kernel / kernel.sum()


def postprocess(raw: Tensor) -> Tensor:
    """(b, 3, h, w) to (b, 1, h, w): channel sum, ReLU, half of it blurred, bilateral filter, divided by the largest value."""
    heat = raw.sum(1, keepdim=True).relu()
    heat = 0.5 * heat + 0.5 * F.conv2d(heat, _gaussian(11, 7.0).to(heat)[None, None], padding=5)
    near = F.unfold(heat, 5, padding=2)
    weights = _gaussian(5, 0.5).to(heat).view(1, -1, 1) * torch.exp(-(near - heat.flatten(2)).square() / (2.0 * 0.05**2))
    heat = ((weights * near).sum(1) / weights.sum(1)).view(heat.shape)
    return heat / heat.amax((1, 2, 3), keepdim=True)


def explain(model: nn.Module, images: Tensor, targets: Tensor, samples: Samples, *, chunk: int = 1) -> tuple[Tensor, Tensor]:
    """The map of every image before and after post-processing, `chunk` samples in one batch."""
    maps = []
    for start in range(0, len(samples.levels), chunk):
        part = Samples(*(getattr(samples, field.name)[start : start + chunk] for field in dataclasses.fields(Samples)))
        maps.append(effective_transformations(model, images, targets, part) * images)
    raw = mad_mean(torch.cat(maps))
    return raw, postprocess(raw)
