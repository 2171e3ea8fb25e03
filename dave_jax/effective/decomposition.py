"""Decompositions: which derivative each part of a network gets, while its value stays what it is.

A network is linear but for a few kinds of *site*. At each site the layers build an operator from the data and apply it:

    site            operator                                         value
    normalisation   1 / sigma(x)                                     LayerNorm, RMSNorm
    activation      phi(x) / x, in closed form (GELU: Phi(x))        GELU, SiLU, QuickGELU
    attention       softmax(q k^T / sqrt(c))                         attention, attention pooling
    gate            phi(g(x))                                        SwiGLU's product
    linear          W                                                every matrix product with weights
    embedding       W                                                that of the patch embedding
    softmax         exp(s), sum exp(s)                               from attention's scores to its matrix
    residual        x + f(x)                                         the sum of a residual branch

A `Decomposition` names a *rule* for every site: a function from operator to operator that keeps its values (see `rules`; `softmax` and
`residual` are functions of their own). `differentiate` changes nothing, so that the gradient includes how the operator varies with x;
`freeze` stops that. A new decomposition is one more value of this class, and no model changes.

Example:
    >>> halves = Decomposition("halves", attention=freeze, activation=freeze)
    >>> resolve("effective").normalisation is freeze
    True
    >>> resolve(halves).name
    'halves'
"""

import dataclasses
import difflib

from dave_jax.effective.gamma import GammaResidual
from dave_jax.effective.held import hold
from dave_jax.effective.rules import Merge, Rule, Share, Softmax, add, differentiate, exponentials, freeze
from dave_jax.effective.tempered import TemperedSoftmax


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """A named rule for every site; see the module's table. Hashable when its rules are: pass functions of a module or frozen dataclasses.

    Attributes:
        name: what to call it.
        normalisation, activation, attention, gate, linear, embedding: the rules of these sites.
        softmax: how attention's scores become its matrix.
        residual: how a residual branch is added.
    """

    name: str
    normalisation: Rule = differentiate
    activation: Rule = differentiate
    attention: Rule = differentiate
    gate: Rule = differentiate
    linear: Rule = differentiate
    embedding: Rule = differentiate
    softmax: Softmax = exponentials
    residual: Merge = add

    @property
    def is_frozen(self) -> bool:
        """Whether no derivative of anything that depends on the image is taken, as in `effective`."""
        return all(rule is freeze for rule in (self.normalisation, self.activation, self.attention, self.gate)) and self.residual is add

    def backwards(self) -> "Decomposition":
        """The same for backward passes alone, quicker: see `held`."""
        return dataclasses.replace(self, attention=hold) if self.attention is freeze else self


gradient = Decomposition("gradient")
"""Everything differentiated: the ordinary input gradient."""

effective = Decomposition("effective", normalisation=freeze, activation=freeze, attention=freeze, gate=freeze)
"""Everything that depends on the image frozen: the effective transformation W_eff of DAVE (arXiv 2602.06613, eq. 3)."""

cp_lrp = Decomposition("cp_lrp", normalisation=freeze, attention=freeze, gate=freeze)
"""CP-LRP as its authors define it (Ali et al. 2022, arXiv 2202.07304): 1/sigma and attention frozen, nothing else, so the activation is
differentiated. They know no gated MLP; its gate is frozen as AttnLRP's authors do where they compare with CP-LRP."""

cp_lrp_identity = dataclasses.replace(cp_lrp, name="cp_lrp_identity", activation=freeze)
"""CP-LRP as AttnLRP's authors run it on vision transformers: the identity rule passes relevance through the activation, a frozen
multiplier. Rule for rule, this is `effective`."""

libragrad = dataclasses.replace(cp_lrp_identity, name="libragrad", gate=Share(0.5, 0.5))
"""LibraGrad (Mehri et al. 2024, arXiv 2411.16760): queries and keys, 1/sigma and activations frozen, a gated product halved."""

attn_lrp = Decomposition("attn_lrp", normalisation=freeze, activation=freeze, attention=Share(0.25, 0.5), gate=Share(0.5, 0.5))
"""AttnLRP (Achtibat et al. 2024, arXiv 2402.05602): 1/sigma and activation frozen, softmax differentiated, and products halved: the
attention matrix times the values, and within the matrix, queries times keys. Hence q / 4, k / 4 and v / 2. On vision transformers its
authors add gamma rules on the products with weights (`GammaLinear`)."""

res_lrp = dataclasses.replace(attn_lrp, name="res_lrp", residual=GammaResidual(1.0))
"""ResLRP (Berend, Achtibat et al. 2026): AttnLRP with the gamma rule at every residual sum."""

gim = Decomposition("gim", normalisation=freeze, attention=Share(0.25, 0.5), gate=Share(0.5, 0.5), softmax=TemperedSoftmax(2.0))
"""GIM (Edin et al. 2025, arXiv 2505.17630): 1/sigma frozen, products halved, softmax's backward pass at temperature 2; the activation is
differentiated."""

presets: dict[str, Decomposition] = {
    preset.name: preset for preset in (gradient, effective, cp_lrp, cp_lrp_identity, libragrad, attn_lrp, res_lrp, gim)
}
"""Decompositions by name. Add your own: `presets["mine"] = Decomposition("mine", ...)`."""


def resolve(decomposition: str | Decomposition) -> Decomposition:
    """The decomposition of that name, or the one given.

    Raises:
        ValueError: the name is not in `presets`.
    """
    if isinstance(decomposition, Decomposition):
        return decomposition
    if decomposition not in presets:
        near = difflib.get_close_matches(decomposition, presets, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"A decomposition is one of {sorted(presets)} or a Decomposition; got {decomposition!r}.{hint} "
            "Register your own with dave_jax.effective.decomposition.presets[name] = Decomposition(...)."
        )
    return presets[decomposition]
