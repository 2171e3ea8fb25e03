"""A linear probe: a classifier on the frozen features of a network, fitted to labelled photographs.

    photographs --network without its head--> features, once --standardised--> softmax regressions, all settings at once --> the best head

The standardisation `(f - mean) / std` is folded into the head, so that the result is a network with a head as any other.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from tqdm import tqdm

from dave_jax.models.heads import with_head, without_head
from dave_jax.models.model import Model, batch_logits
from dave_jax.models.preprocess import Photo

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
WEIGHT_DECAYS = (0.0, 1e-2, 1e-1, 1.0)


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        model: the network with the best head.
        accuracy: top-1 on the photographs that were held out, which chose the head.
        learning_rate, weight_decay: of the best head.
        accuracies: the same for every head, Float[rates decays].
        learning_rates, weight_decays: that were tried.
        held_out: how many photographs were held out.
    """

    model: Model
    accuracy: float
    learning_rate: float
    weight_decay: float
    accuracies: Float[np.ndarray, "rates decays"]
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    held_out: int


class _Sweep(NamedTuple):
    kernel: Float[Array, "rates decays features classes"]
    bias: Float[Array, "rates decays classes"]
    accuracy: Float[Array, "rates decays"]
    loss: Float[Array, "rates decays"]


def features(
    model: Model, photos: Iterable[Photo], *, batch_size: int = 32, progress: bool = False, total: int | None = None
) -> Float[np.ndarray, "n features"]:
    """What a model returns for photographs, read and computed a batch at a time.

    Args:
        model: without a head (`without_head`), for features.
        photos: any number of them; a generator is read as it is needed.
        batch_size: photographs computed at once.
        progress: show a bar.
        total: the number of photographs, for the bar.

    Raises:
        ValueError: there is no photograph, or one cannot be read.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> features(without_head(tiny_model()), [np.zeros((9, 9, 3), np.uint8)] * 3).shape
        (3, 16)
    """
    rows: list[np.ndarray] = []
    batch: list[np.ndarray] = []

    def compute() -> None:
        count = len(batch)
        padded = jnp.asarray(np.concatenate([*batch, *batch[-1:] * (batch_size - count)]))  # one shape, one program
        rows.append(np.asarray(batch_logits(model.forward, model.params, padded))[:count])
        batch.clear()

    for photo in tqdm(photos, unit="photo", disable=not progress, total=total):
        batch.append(model.preprocessing(photo))
        if len(batch) == batch_size:
            compute()
    if batch:
        compute()
    if not rows:
        raise ValueError("There is no photograph to compute features of: the sequence is empty. Pass at least one.")
    return np.concatenate(rows)


def linear_probe(
    model: Model,
    photos: Iterable[Photo],
    labels: ArrayLike | Sequence[int],
    class_names: Sequence[str],
    *,
    key: PRNGKeyArray,
    pooling: str | None = None,
    pooled_blocks: int | None = None,
    held_out: float = 0.1,
    learning_rates: Sequence[float] = LEARNING_RATES,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    epochs: int = 100,
    progress: bool = False,
) -> LinearProbe:
    """Fit a classifier on the features of a network, whose own parameters stay as they are.

    A multinomial logistic regression `softmax(W f + b)` on standardised features, by AdamW (arXiv 1711.05101) with a cosine schedule. Every
    pair of a learning rate and a weight decay is trained in one vectorised program; the pair with the best accuracy on the photographs held
    out wins, the lower loss deciding a tie.

    Args:
        model: a network, with or without a head; a head of its own is left out.
        photos: photographs, in the order of `labels`; a generator is read as it is needed.
        labels: class ids Int[n], from 0.
        class_names: one for each class.
        key: for what is held out, and the order of the steps.
        pooling: of a vision transformer, if not its own: `token_and_mean` is the class token beside the mean of the patches.
        pooled_blocks: of how many of the last blocks the class token is read, if not the network's own number.
        held_out: the share of each class that chooses the head and is not trained on.
        learning_rates, weight_decays: to try.
        epochs: passes over the features.
        progress: show a bar while the features are computed.

    Raises:
        ValueError: labels that are not class ids, a class with fewer than two photographs, or settings outside their range.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> photos = [np.full((16, 16, 3), 255 * (i % 2), np.uint8) for i in range(8)]
        >>> found = linear_probe(tiny_model(), photos, [0, 1] * 4, ["dark", "light"], key=jax.random.key(0), held_out=0.5)
        >>> found.accuracy, found.model.class_names
        (1.0, ('dark', 'light'))
    """
    ids = _check(labels, class_names, held_out, learning_rates, weight_decays, epochs)
    network = without_head(model, pooling=pooling, pooled_blocks=pooled_blocks)
    values = features(network, photos, progress=progress, total=len(ids))
    if len(values) != len(ids):
        raise ValueError(f"There must be one label for each photograph; got {len(ids)} labels for {len(values)} photographs.")
    split_key, step_key = jax.random.split(key)
    chosen = _held_out(ids, held_out, np.random.default_rng(np.asarray(jax.random.key_data(split_key))))
    mean, std = values[~chosen].mean(axis=0), values[~chosen].std(axis=0)
    std = np.where(std > 0, std, np.float32(1))  # a feature that never changes has nothing to say
    scaled = jnp.asarray((values - mean) / std)
    rates, decays = jnp.asarray(learning_rates, scaled.dtype), jnp.asarray(weight_decays, scaled.dtype)
    sets = scaled[~chosen], jnp.asarray(ids[~chosen]), scaled[chosen], jnp.asarray(ids[chosen])
    batch_size = min(256, len(sets[0]))
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
        sweep = _sweep(*sets, rates, decays, step_key, classes=len(class_names), epochs=epochs, batch_size=batch_size)
    row, column = _best(np.asarray(sweep.accuracy), np.asarray(sweep.loss))
    kernel = np.asarray(sweep.kernel)[row, column] / std[:, None]
    bias = np.asarray(sweep.bias)[row, column] - mean @ kernel
    return LinearProbe(
        model=with_head(network, kernel, bias, tuple(class_names)),
        accuracy=float(sweep.accuracy[row, column]),
        learning_rate=float(learning_rates[row]),
        weight_decay=float(weight_decays[column]),
        accuracies=np.asarray(sweep.accuracy),
        learning_rates=tuple(map(float, learning_rates)),
        weight_decays=tuple(map(float, weight_decays)),
        held_out=int(chosen.sum()),
    )


def _check(
    labels: ArrayLike | Sequence[int],
    class_names: Sequence[str],
    held_out: float,
    rates: Sequence[float],
    decays: Sequence[float],
    epochs: int,
) -> Int[np.ndarray, " n"]:
    ids = np.asarray(labels)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"labels must be class ids, integers of shape (n,); got {ids.dtype} of shape {ids.shape}.")
    if len(class_names) < 2:
        raise ValueError(f"A classifier needs at least two classes; got {list(class_names)}. Add photographs of another.")
    counts = np.bincount(ids, minlength=len(class_names)) if ids.size and ids.min() >= 0 else np.zeros(0, int)
    if len(counts) != len(class_names):
        raise ValueError(f"labels must lie in 0 to {len(class_names) - 1}, for there are {len(class_names)} class names.")
    few = [name for name, count in zip(class_names, counts, strict=True) if count < 2]
    if few:
        raise ValueError(f"Every class needs two photographs, one of them to hold out; too few for {few[:5]}. Add some, or leave it out.")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share between 0 and 1; got {held_out}.")
    if epochs < 1 or not rates or not decays or min(rates) <= 0 or min(decays) < 0:
        raise ValueError(
            f"epochs must be at least 1, learning rates positive, weight decays not negative, one of each at least; "
            f"got {epochs}, {list(rates)}, {list(decays)}."
        )
    return ids.astype(np.int32)


def _held_out(ids: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """A mask: of each class that share, at least one photograph and not all."""
    mask = np.zeros(len(ids), bool)
    for label in np.unique(ids):
        members = generator.permutation(np.flatnonzero(ids == label))
        mask[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    return mask


def _best(accuracy: np.ndarray, loss: np.ndarray) -> tuple[int, int]:
    best = np.lexsort((loss.ravel(), -accuracy.ravel()))[0]
    row, column = np.unravel_index(best, accuracy.shape)
    return int(row), int(column)


@partial(jax.jit, static_argnames=("classes", "epochs", "batch_size"))
def _sweep(
    x: Float[Array, "n features"],
    labels: Int[Array, " n"],
    held_x: Float[Array, "m features"],
    held_labels: Int[Array, " m"],
    rates: Float[Array, " rates"],
    decays: Float[Array, " decays"],
    key: PRNGKeyArray,
    *,
    classes: int,
    epochs: int,
    batch_size: int,
) -> _Sweep:
    """Train a head for every pair of settings, all on the same batches, and measure it on what was held out."""
    per_epoch = len(x) // batch_size
    start = {"kernel": jnp.zeros((x.shape[1], classes), x.dtype), "bias": jnp.zeros(classes, x.dtype)}

    def logits(head: dict[str, Array], x: Array) -> Array:
        return x @ head["kernel"] + head["bias"][None]

    def loss(head: dict[str, Array], x: Array, labels: Array) -> Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(head, x), labels))

    def fit(rate: Array, decay: Array) -> dict[str, Array]:
        schedule = optax.cosine_decay_schedule(1.0, epochs * per_epoch)
        optimiser = optax.adamw(lambda count: rate * schedule(count), weight_decay=decay, mask={"kernel": True, "bias": False})

        def step(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], None]:
            head, state = carry
            updates, state = optimiser.update(jax.grad(loss)(head, x[chosen], labels[chosen]), state, head)
            return (optax.apply_updates(head, updates), state), None

        def epoch(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], None]:
            order = jax.random.permutation(key, len(x))[: per_epoch * batch_size]
            return jax.lax.scan(step, carry, order.reshape(per_epoch, batch_size))

        (head, _), _ = jax.lax.scan(epoch, (start, optimiser.init(start)), jax.random.split(key, epochs))
        return head

    def score(head: dict[str, Array]) -> tuple[Array, Array]:
        scores = logits(head, held_x)
        right = (jnp.argmax(scores, axis=-1) == held_labels).astype(x.dtype)
        return jnp.mean(right), jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, held_labels))

    heads = jax.vmap(jax.vmap(fit, (None, 0)), (0, None))(rates, decays)
    shape = len(rates), len(decays)
    accuracy, held_loss = jax.lax.map(score, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), heads))  # one after the other
    return _Sweep(heads["kernel"], heads["bias"], accuracy.reshape(shape), held_loss.reshape(shape))
