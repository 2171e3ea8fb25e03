"""The ViTs of the B-cos repository in PyTorch, from the papers' equations (arXiv 2205.10268, 2306.10898, 2205.01580), with its key names.

`explaining` detaches what the explanation mode holds constant: |cos|, the variance of norms, queries and keys.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional


def _held(x: Tensor, explaining: bool) -> Tensor:
    return x.detach() if explaining else x


class Unit(nn.Module):
    """A B-cos product; a plain one behind it holds the weight."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.linear, self.explaining = nn.Linear(fan_in, fan_out, bias=False), False

    def forward(self, x: Tensor) -> Tensor:
        product = x @ functional.normalize(self.linear.weight, dim=1).T
        return _held(product.abs() / (x.norm(dim=-1, keepdim=True) + 1e-12), self.explaining) * product


class UnitConv(nn.Module):
    """The same for every 3 x 3 window, cut out one by one."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.stride = 2 if fan_out > fan_in else 1
        self.linear, self.explaining = nn.Conv2d(fan_in, fan_out, 3, self.stride, 1, bias=False), False

    def forward(self, x: Tensor) -> Tensor:
        windows = functional.unfold(x, 3, padding=1, stride=self.stride).transpose(1, 2)
        product = windows @ functional.normalize(self.linear.weight.flatten(1), dim=1).T
        length = (windows.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        y = _held(product.abs() / length, self.explaining) * product
        return y.transpose(1, 2).unflatten(2, ((x.shape[2] - 1) // self.stride + 1, -1))


class Norm(nn.Module):
    """Centred norm with a gain: over the last axis, or over all of a map."""

    def __init__(self, width: int, over_map: bool = False):
        super().__init__()
        self.weight, self.axes, self.explaining = nn.Parameter(torch.ones(width)), (1, 2, 3) if over_map else (-1,), False

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(self.axes, keepdim=True)
        sigma = (centred.square().mean(self.axes, keepdim=True) + 1e-5).sqrt()
        gain = self.weight[:, None, None] if len(self.axes) == 3 else self.weight
        return gain * centred / _held(sigma, self.explaining)


class Patches(nn.Module):
    """(b, c, h, w) to (b, rows, columns, patch height * patch width * c)."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        x = x.unfold(2, self.size, self.size).unfold(3, self.size, self.size)  # b, c, rows, columns, height, width
        return x.permute(0, 2, 3, 4, 5, 1).flatten(3)


def _linear(bcos: bool, fan_in: int, fan_out: int, bias: bool = True) -> nn.Module:
    return Unit(fan_in, fan_out) if bcos else nn.Linear(fan_in, fan_out, bias)


def _norm(bcos: bool, width: int) -> nn.Module:
    return Norm(width) if bcos else nn.LayerNorm(width)


def _stem_layers(bcos: bool, fan_in: int, fan_out: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    if bcos:
        return UnitConv(fan_in, fan_out), Norm(fan_out, over_map=True), nn.Identity()
    return nn.Conv2d(fan_in, fan_out, 3, 2 if fan_out > fan_in else 1, 1), nn.GroupNorm(1, fan_out), nn.GELU()


class Attention(nn.Module):
    def __init__(self, bcos: bool, width: int, num_heads: int):
        super().__init__()
        self.norm, self.num_heads, self.explaining = _norm(bcos, width), num_heads, False
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width, bias=False), _linear(bcos, width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.to_qkv(self.norm(x)).chunk(3, -1))
        scores = _held(query, self.explaining) @ _held(key, self.explaining).mT / query.shape[-1] ** 0.5
        return self.to_out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, bcos: bool, width: int, hidden: int):
        super().__init__()
        first, last = _linear(bcos, width, hidden), _linear(bcos, hidden, width)
        act = nn.Identity() if bcos else nn.GELU()
        self.net = nn.Sequential(OrderedDict(norm=_norm(bcos, width), linear1=first, act=act, linear2=last))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Encoder(nn.Module):
    def __init__(self, bcos: bool, width: int, num_heads: int, hidden: int):
        super().__init__()
        self.attn, self.ff = Attention(bcos, width, num_heads), Mlp(bcos, width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ff(x)


def _waves(rows: int, columns: int, width: int) -> Tensor:
    frequencies = [10000 ** (-i / (width // 4 - 1)) for i in range(width // 4)]
    tokens = []
    for row in range(rows):
        for column in range(columns):
            across, down = (torch.tensor([place * frequency for frequency in frequencies]) for place in (column, row))
            tokens.append(torch.cat([across.sin(), across.cos(), down.sin(), down.cos()]))
    return torch.stack(tokens)


class Vit(nn.Module):
    """With B-cos products, or with plain ones; with a convolutional stem where it has widths."""

    def __init__(self, *, bcos: bool, patch: int, stem: tuple[int, ...], width: int, depth: int, num_heads: int, hidden: int, classes: int):
        super().__init__()
        widths = (6 if bcos else 3, *stem)
        parts = [layer for i, out in enumerate(stem) for layer in _stem_layers(bcos, widths[i], out)]
        embedding = OrderedDict(conv_stem=nn.Sequential(*parts)) if stem else OrderedDict()
        embedding |= OrderedDict(cut=Patches(patch), linear=_linear(bcos, patch * patch * widths[-1], width))
        self.to_patch_embedding = nn.Sequential(embedding)
        encoders = OrderedDict((f"encoder_{i}", Encoder(bcos, width, num_heads, hidden)) for i in range(depth))
        self.transformer = nn.Sequential(encoders)
        self.linear_head = nn.Sequential(OrderedDict(norm=_norm(bcos, width), linear=_linear(bcos, width, classes)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.to_patch_embedding(x)
        waves = _waves(*x.shape[1:]).to(x.dtype)
        return self.linear_head(self.transformer(x.flatten(1, 2) + waves).mean(1))


class Logits(nn.Module):
    def __init__(self, bias: float, temperature: float):
        super().__init__()
        self.bias, self.temperature = bias, temperature

    def forward(self, x: Tensor) -> Tensor:
        return x / self.temperature + self.bias


def explaining(model: nn.Module, on: bool) -> nn.Module:
    """The model, in the explanation mode or out of it."""
    for module in model.modules():
        if hasattr(module, "explaining"):
            module.explaining = on
    return model
