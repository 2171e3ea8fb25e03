"""transformers' ConvNeXt, V1 and V2: `config.json`, `preprocessor_config.json` and state dicts.

read = describe(config_document, processor_document)
params = read.params(safetensors.numpy.load_file("model.safetensors"))
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from convert_weights.huggingface import ACTIVATIONS, read_class_names, written_class
from convert_weights.image_processor import read_preprocessing
from convert_weights.layouts import convolution, dense, norm, vector
from convert_weights.options import whole
from convert_weights.table import Entry, convert
from dave_jax.models.convnext_config import ConvNeXtConfig, init_params
from dave_jax.models.preprocess import Preprocessing

CLASSES = {"convnext": "ConvNext", "convnextv2": "ConvNextV2"}
"""By `model_type`, how the names of its classes begin."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the files beside a checkpoint of transformers' ConvNeXt say about it.

    Attributes:
        architecture: the class that wrote it.
        model_type: `convnext` or `convnextv2`.
        config: the network.
        preprocessing: from photographs to the network's images.
        class_names: one for each class, unless they are numbers.
    """

    architecture: str
    model_type: str
    config: ConvNeXtConfig
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None

    family = "convnext"  # of `dave_jax.models.families`

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that a state dict holds, of type `dtype`, on the default device; `what` to call it in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        prefix = f"{self.model_type}."
        rows = table(self.config, prefix=prefix if any(key.startswith(prefix) for key in arrays) else "")
        return convert(arrays, rows, jax.eval_shape(lambda: init_params(jax.random.key(0), self.config)), what=what, dtype=dtype)


def describe(
    document: Mapping[str, Any],
    processor: Mapping[str, Any],
    *,
    image_size: tuple[int, int] | None = None,
    what: str = "config.json",
    processor_what: str = "preprocessor_config.json",
) -> Description:
    """Read a `config.json` and a `preprocessor_config.json` of transformers' ConvNeXt.

    Args:
        document: the JSON of the former.
        processor: the JSON of the latter.
        image_size: height and width, if not the processor's.
        what, processor_what: what to call the files in errors.

    Raises:
        ValueError: a class or option that dave_jax does not have, or malformed settings.

    Example:
        >>> files = {"model_type": "convnextv2", "architectures": ["ConvNextV2Model"], "depths": [2, 2, 6, 2]}, {"size": 224}
        >>> read = describe(*files)
        >>> read.config.response_norm, read.preprocessing.resized(300, 400)
        (True, (256, 341))
    """
    stem = CLASSES[document["model_type"]]
    architecture = written_class(document, [stem + end for end in ("Model", "ForImageClassification")], what)
    preprocessing = read_preprocessing(processor, processor="ConvNext", image_size=image_size, what=processor_what)
    try:
        names = read_class_names(document) if architecture.endswith("Classification") else []
        config = _config(document, len(names), what)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{what} must be laid out as transformers writes it; it is not ({error!r}). Compare it with another model's."
        ) from error
    class_names = None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else tuple(names)
    return Description(architecture, document["model_type"], config, preprocessing, class_names)


def _config(document: Mapping[str, Any], num_classes: int, what: str) -> ConvNeXtConfig:
    """The network; transformers fixes what is not an option there: kernels of 7 pixels, and the eps of every norm but the last."""
    second = document["model_type"] == "convnextv2"
    activation, depths = document.get("hidden_act", "gelu"), tuple(document.get("depths") or (3, 3, 9, 3))
    problems = []
    if activation not in ACTIVATIONS:
        problems.append(f"hidden_act {activation!r} is none of {sorted(ACTIVATIONS)}")
    if document.get("num_channels", 3) != 3:
        problems.append(f"num_channels must be 3; got {document['num_channels']!r}")
    if document.get("num_stages", len(depths)) != len(depths):
        problems.append(f"num_stages must be the number of depths; got {document['num_stages']!r} for {len(depths)}")
    if problems:
        raise ValueError(f"{what} has options that dave_jax does not support: {'; '.join(problems)}. Use another checkpoint.")
    return ConvNeXtConfig(
        depths=tuple(int(depth) for depth in depths),
        widths=tuple(int(width) for width in document.get("hidden_sizes") or (96, 192, 384, 768)),
        kernel_sizes=(7,) * len(depths),
        num_classes=num_classes,
        patch_size=whole(document, "patch_size", 4),
        activation=ACTIVATIONS[activation],
        response_norm=second,
        layer_scale=not second and float(document.get("layer_scale_init_value", 1e-6)) > 0,
        final_eps=float(document.get("layer_norm_eps", 1e-12)),
    )


def table(config: ConvNeXtConfig, *, prefix: str) -> list[Entry]:
    """The rows for every parameter that a configuration may have; `prefix` of the backbone's keys, where they have one."""
    embeddings = f"{prefix}embeddings"
    rows = [*dense(f"{embeddings}.patch_embeddings", "stem/conv1", convolution), *norm(f"{embeddings}.layernorm", "stem/norm")]
    for stage in range(len(config.depths)):
        theirs, ours = f"{prefix}encoder.stages.{stage}", f"stages/{stage}"
        block, blocks = f"{theirs}.layers.{{i}}", f"{ours}/blocks"
        rows += [
            *norm(f"{theirs}.downsampling_layer.0", f"{ours}/downsample/norm"),
            *dense(f"{theirs}.downsampling_layer.1", f"{ours}/downsample/conv", convolution),
            *dense(f"{block}.dwconv", f"{blocks}/conv", convolution),
            *norm(f"{block}.layernorm", f"{blocks}/norm"),
            *dense(f"{block}.pwconv1", f"{blocks}/fc1"),
            Entry(f"{block}.grn.weight", f"{blocks}/response_norm/scale", np.ravel),
            Entry(f"{block}.grn.bias", f"{blocks}/response_norm/bias", np.ravel),
            *dense(f"{block}.pwconv2", f"{blocks}/fc2"),
            Entry(f"{block}.layer_scale_parameter", f"{blocks}/layer_scale/scale", vector),
        ]
    return [*rows, *norm(f"{prefix}layernorm", "final_norm"), *dense("classifier", "head")]
