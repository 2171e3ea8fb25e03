"""timm's constructor options, written as JSON: layers by name, `"LayerNorm(eps=1e-05)"` where they carry arguments."""

from collections.abc import Mapping
from typing import Any

ACTIVATIONS = {"gelu": "gelu", "gelutanh": "gelu_tanh", "quickgelu": "quick_gelu", "silu": "silu", "swish": "silu", "relu": "relu"}
"""timm's names of activations, plain, to ours."""

NORMS = {"layernorm": "layer_norm", "rmsnorm": "rms_norm"}
"""timm's names of norms, plain, to ours."""

_LEFT_OUT = {  # options that change training or bookkeeping only, or that the arrays and the other options already say
    *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "drop_block_rate"),
    *("weight_init", "fix_init", "head_init_scale", "zero_init_last"),
    *("dynamic_img_size", "device", "dtype", "pretrained", "pretrained_strict"),
}


def plain(name: str) -> str:
    """A name as timm compares it: `gelu_tanh` and `GELUTanh` are one."""
    return name.replace("_", "").lower()


def named(value: Any) -> tuple[str, dict[str, str]]:
    """`"LayerNorm(eps=1e-05)"` as `("layernorm", {"eps": "1e-05"})`."""
    name, _, arguments = str(value).partition("(")
    pairs = (pair.split("=") for pair in arguments.rstrip(")").split(",") if pair)
    return plain(name), {key.strip(): argument.strip() for key, argument in pairs}


def pair(size: Any) -> tuple[int, int]:
    """Height and width of a size that may be one number.

    Raises:
        TypeError: they are no whole numbers.
    """
    height, width = (size, size) if isinstance(size, (int, float)) else size
    if not float(height).is_integer() or not float(width).is_integer():
        raise TypeError(f"a size is a whole number or a pair of them; got {size!r}")
    return int(height), int(width)


def whole(options: Mapping[str, Any], name: str, default: int | None) -> int:
    """An option of a JSON document that is a whole number.

    Raises:
        TypeError: it is something else.
    """
    value = options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    return value


class Options:
    """Constructor options being read: remembers what was read, and every problem."""

    def __init__(self, options: Mapping[str, Any]):
        self.options, self.read, self.problems = dict(options), set(_LEFT_OUT), []

    def get(self, name: str, default: Any) -> Any:
        """The option, or its default where it is missing or None."""
        self.read.add(name)
        value = self.options.get(name)
        return default if value is None else value

    def choose(self, name: str, default: str, choices: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
        """What a named layer stands for, and its arguments."""
        key, arguments = named(self.get(name, default))
        if key not in choices:
            self.problems.append(f"{name} {self.options[name]!r} is none of {sorted(choices)}")
        return choices.get(key), arguments

    def only(self, name: str, *allowed: Any) -> None:
        """The option must be one of `allowed`, the first being its default."""
        value = self.get(name, allowed[0])
        if (plain(value) if isinstance(value, str) else value) not in allowed:
            self.problems.append(f"{name}={self.options[name]!r} is not supported; only {list(allowed)}")

    def check(self, network: str) -> None:
        """To call when all is read.

        Raises:
            ValueError: listing every unknown or unsupported option.
        """
        self.problems += [f"unknown option {name}={self.options[name]!r}" for name in sorted(set(self.options) - self.read)]
        if self.problems:
            raise ValueError(
                f"dave_jax builds timm's {network} from options that it knows; it does not know these:\n  "
                + "\n  ".join(self.problems)
                + "\nCorrect config.json's model_args, or use another architecture (dave-jax models lists them)."
            )
