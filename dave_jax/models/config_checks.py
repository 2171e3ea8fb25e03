"""What the configurations of all networks check, so that a wrong one is refused before anything is allocated for it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

MOST = {
    **{"depth": 1000, "num_registers": 1000, "num_classes": 10**6},
    **{"vocab_size": 10**7, "context_length": 2**14, "stem_widths": 10**6},
    **{"width": 10**6, "widths": 10**7, "mlp_width": 10**7, "mlp_widths": 10**8, "projection": 10**6, "image_size": 2**15},
}
"""More of them is a broken file rather than a network, and would not end or not fit anywhere."""

_LARGEST = 1e9  # of epsilons and temperatures

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


def problems_of(
    config: Any, *, least: Mapping[Any, int], allowed: Mapping[Any, Iterable[str]] = _NOTHING, positive: Iterable[str] = ("eps",)
) -> list[str]:
    """What is wrong with the fields of a configuration, in words; a field that is a tuple is one of many values.

    Args:
        config: with the fields that the others name.
        least: the least value of numbers; the most is that of `MOST`, for tuples together.
        allowed: the choices of named fields.
        positive: fields that are positive and no larger than any network's.
    """
    problems = []
    for name, choices in allowed.items():
        value = getattr(config, name)
        if not set(value if isinstance(value, tuple) else (value,)) <= set(choices):
            problems.append(f"{name} is one of {list(choices)}; got {value!r}")
    for name, bound in least.items():
        value = getattr(config, name)
        if min(value if isinstance(value, tuple) else (value,), default=bound) < bound:
            problems.append(f"{name} must be at least {bound}; got {value}")
    for name, bound in (MOST | {"depths": MOST["depth"]}).items():
        value = getattr(config, name, 0)
        if (sum(value) if isinstance(value, tuple) else value) > bound:
            problems.append(f"{name} must be at most {bound}; got {value}")
    for name in positive:
        value = getattr(config, name)
        if not 0 < value <= _LARGEST:
            problems.append(f"{name} must be {f'at most {_LARGEST:g}' if value > _LARGEST else 'positive'}; got {value}")
    heads = getattr(config, "num_heads", None)
    if heads is None:
        return problems
    heads, widths = (heads, config.widths) if isinstance(heads, tuple) else ((heads,), (config.width,))
    for count, width in zip(heads, widths, strict=False):  # of every stage; that there are as many is checked elsewhere
        if count > 0 and width % count:
            problems.append(f"num_heads must divide width; got {count} heads for width {width}")
    return problems
