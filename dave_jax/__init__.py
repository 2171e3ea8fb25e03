"""dave_jax: pixel-level explanations of vision transformers in JAX.

    model  = dave.load()                                               # a name, a folder, a repository: WHO PREDICTS        models/
    images = model.preprocess("photo.jpg")                             # normalised, (b, h, w, 3)
    maps   = dave.explain(model, images, targets, key=key)             # heat maps in [0, 1], (b, h, w)

    image --T--> T x --noise--> x_t                                    sampling/     WHERE WE LOOK
      --layers as frozen linear operators--> logits                    effective/    WHAT IS LINEAR
      --one vjp--> T^T W_eff(x_t)^T target, averaged, times the image  attribution/  WHAT WE SAY
      --localisation, perturbation, stability--> scores                evaluation/   HOW GOOD
    photographs --optax--> the embedded model, linear probes           training/     WHAT load() GIVES
    a data set --grain--> devices --tensorstore--> a store of maps     batch/        AT SCALE
    explain --jax.export--> a file that JAX alone runs                 export/       ELSEWHERE

The method is DAVE (arXiv 2602.06613). Each stage imports only from those before it.
"""

import typing as _typing
from importlib import import_module as _import_module
from importlib.metadata import version as _version

from dave_jax import testing as testing
from dave_jax.attribution.aggregate import mad_mean as mad_mean
from dave_jax.attribution.bias import BiasContributions as BiasContributions
from dave_jax.attribution.bias import bias_contributions as bias_contributions
from dave_jax.attribution.bias import completeness as completeness
from dave_jax.attribution.conservation import Conservation as Conservation
from dave_jax.attribution.conservation import conservation as conservation
from dave_jax.attribution.explain import effective_transformation as effective_transformation
from dave_jax.attribution.explain import explain as explain
from dave_jax.attribution.postprocess import postprocess as postprocess
from dave_jax.attribution.rounds import Round as Round
from dave_jax.attribution.rounds import explain_rounds as explain_rounds
from dave_jax.attribution.text import TextExplanation as TextExplanation
from dave_jax.attribution.text import explain_text as explain_text
from dave_jax.attribution.until import Converged as Converged
from dave_jax.attribution.until import explain_until as explain_until
from dave_jax.config import DaveConfig as DaveConfig
from dave_jax.effective.decomposition import Decomposition as Decomposition
from dave_jax.effective.trace.decompose import decompose as decompose
from dave_jax.effective.trace.report import Report as Report
from dave_jax.effective.trace.report import inspect as inspect
from dave_jax.effective.trace.rules import rule as rule
from dave_jax.export.export import export as export
from dave_jax.models.bcos import BcosViT as BcosViT
from dave_jax.models.bcos_config import BcosViTConfig as BcosViTConfig
from dave_jax.models.convnext import ConvNeXt as ConvNeXt
from dave_jax.models.convnext_config import ConvNeXtConfig as ConvNeXtConfig
from dave_jax.models.hub import known_models as known_models
from dave_jax.models.hub import load as load
from dave_jax.models.image_text import ImageText as ImageText
from dave_jax.models.model import Model as Model
from dave_jax.models.preprocess import Preprocessing as Preprocessing
from dave_jax.models.resnet import ResNet as ResNet
from dave_jax.models.resnet_config import ResNetConfig as ResNetConfig
from dave_jax.models.store import save as save
from dave_jax.models.swin import Swin as Swin
from dave_jax.models.swin_config import SwinConfig as SwinConfig
from dave_jax.models.vit import ViT as ViT
from dave_jax.models.vit_config import ViTConfig as ViTConfig
from dave_jax.sampling.calibrate import Calibration as Calibration
from dave_jax.sampling.calibrate import calibrate as calibrate

if _typing.TYPE_CHECKING:
    from dave_jax.batch.dataset import explain_dataset as explain_dataset
    from dave_jax.batch.maps import Maps as Maps
    from dave_jax.batch.maps import open_maps as open_maps
    from dave_jax.models.equinox import from_equinox as from_equinox
    from dave_jax.models.flax import NnxViT as NnxViT
    from dave_jax.models.flax import from_linen as from_linen
    from dave_jax.models.flax import from_nnx as from_nnx
    from dave_jax.training.linear_probe import LinearProbe as LinearProbe
    from dave_jax.training.linear_probe import linear_probe as linear_probe

__version__ = _version("dave-jax")

_LATE = {
    **dict.fromkeys(("NnxViT", "from_linen", "from_nnx"), "dave_jax.models.flax"),
    "from_equinox": "dave_jax.models.equinox",
    "explain_dataset": "dave_jax.batch.dataset",
    **dict.fromkeys(("Maps", "open_maps"), "dave_jax.batch.maps"),
    **dict.fromkeys(("LinearProbe", "linear_probe"), "dave_jax.training.linear_probe"),
}


def __getattr__(name: str) -> _typing.Any:
    """The names that need flax or optax, whose imports take a third of ours, or Equinox: imported when they are first used."""
    if name in _LATE:
        return getattr(_import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
