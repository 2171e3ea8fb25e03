"""The two sides of `compare_torch.py`, each run in a process of its own: the same weights, images, samples, and questions.

They share a folder: PyTorch draws the weights and writes them, `explain`'s transforms and noise are written for PyTorch.
"""

import copy
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

MODELS: dict[str, dict[str, Any]] = {  # timm's constructor options
    "vit_small_patch16_224": dict(img_size=224, patch_size=16, embed_dim=384, depth=12, num_heads=6, num_classes=1000),
    "vit_base_patch16_224": dict(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, num_classes=1000),
    "vit_test": dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=7),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """What a side needs to know."""

    model: str
    folder: Path
    recordings: Path | None
    images: int
    samples: int
    chunk: int | None
    variant: str
    threads: int

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def drawn(self) -> Path:
        return self.folder / "samples.npz"

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (b, h, w, 3) and targets (b,)."""
        size = MODELS[self.model]["img_size"]
        images = np.random.default_rng(0).standard_normal((self.images, size, size, 3), np.float32)
        return images, np.arange(1, self.images + 1)


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def close_share(ours: Any, theirs: Any, tolerance: float) -> float:
    """Share of the elements that differ by less than `tolerance` of the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return float((np.abs(ours - theirs) < tolerance * np.abs(theirs).max()).mean())


class TorchSide:
    """The authors' algorithm on a timm model with random weights, as timm draws them."""

    def __init__(self, job: Job):
        import torch
        import torch_dave
        from timm.models.vision_transformer import VisionTransformer

        torch.set_num_threads(job.threads)
        torch.manual_seed(0)
        self.job, self.torch, self.dave, self.build = job, torch, torch_dave, VisionTransformer
        self.chunk = 1 if job.variant == "authors" else job.chunk or min(4, job.samples)
        plain = VisionTransformer(**MODELS[job.model])
        if not job.weights.exists():
            from safetensors.torch import save_file

            save_file(plain.state_dict(), job.weights)
        self.model = torch_dave.detach_operators(plain, job.variant)
        images, targets = job.inputs
        self.images, self.targets = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(targets)

    def check_recordings(self) -> dict[str, dict[str, float]]:
        """How far this side is from what the authors' code computed: for each recording W_eff, raw (share that is close) and post."""
        from safetensors.torch import load_file

        folder, found = self.job.recordings, {}
        for name, options in json.loads((folder / "configs.json").read_text()).items():
            plain = self.build(**options)
            arrays = load_file(folder / f"{name}.safetensors")
            plain.load_state_dict({key: array for key, array in arrays.items() if not key.endswith(".C")})  # their centering matrices
            model = self.dave.detach_operators(plain, self.job.variant)
            seen = {key: self.torch.from_numpy(array) for key, array in np.load(folder / f"{name}.npz").items()}
            samples = self.dave.Samples(seen["matrices"], seen["noise"], seen["t"])
            raw, _ = self.dave.explain(model, seen["x"], seen["y"], samples, chunk=self.chunk)
            found[name] = {
                "w_eff": distance(self.dave.effective_transformations(model, seen["x"], seen["y"], samples), seen["w_eff"]),
                "raw": close_share(raw, seen["raw"], 1e-4),
                "post": distance(self.dave.postprocess(seen["raw"]), seen["post"]),
            }
        return found

    def prepare(self) -> None:
        """Read the samples."""
        drawn = np.load(self.job.drawn)
        self.samples = self.dave.Samples(*(self.torch.from_numpy(drawn[name]) for name in ("matrices", "noise", "levels")))

    def answer(self) -> dict[str, np.ndarray]:
        """W_eff (samples, b, h, w, 3) in double precision, the MAD mean (b, h, w, 3), the heat map (b, h, w).

        In single precision PyTorch's W_eff of a ViT-B is 1.5e-4 of its largest value from its own in double precision.
        """
        precise = copy.deepcopy(self.model).double()
        samples = zip(*(array.double().split(1) for array in vars(self.samples).values()), strict=True)
        w_eff = [
            self.dave.effective_transformations(precise, self.images.double(), self.targets, self.dave.Samples(*part)) for part in samples
        ]
        raw, heat = self._explain()
        return {
            "w_eff": self.torch.cat(w_eff).movedim(2, -1).numpy(),
            "raw": raw.movedim(1, -1).numpy(),
            "heat": heat[:, 0].numpy(),
        }

    def run(self) -> None:
        """Explain the images once: what is timed."""
        self._explain()

    def _explain(self):
        return self.dave.explain(self.model, self.images, self.targets, self.samples, chunk=self.chunk)


class JaxSide:
    """`dave_jax.explain` on the same weights."""

    def __init__(self, job: Job):
        os.environ.pop("XLA_FLAGS", None)
        import jax
        from safetensors.numpy import load_file

        import dave_jax as dave
        from convert_weights.timm import config_from_options, params_from_arrays
        from dave_jax.models.preprocess import Preprocessing
        from dave_jax.models.vit import ViT

        config = config_from_options(MODELS[job.model])
        params = jax.device_put(params_from_arrays(load_file(job.weights), config))
        self.job, self.jax, self.dave = job, jax, dave
        self.model = dave.Model(params, ViT(config), preprocessing=Preprocessing(image_size=config.image_size))
        self.config = dave.DaveConfig(num_samples=job.samples, chunk_size=job.chunk, noise_alpha=0.5)
        self.images, self.targets = (jax.device_put(array) for array in job.inputs)
        self.key, self.ids = jax.random.key(0), jax.numpy.arange(job.images)

    def prepare(self) -> None:
        """Write what `explain` draws, once: sample i of image j, half of `fold_in(fold_in(key, j), i)` for transform and noise each."""
        from dave_jax.sampling.noise import noise_levels
        from dave_jax.sampling.transforms import sample_transform

        if self.job.drawn.exists():
            return
        random, (_, *shape) = self.jax.random, self.images.shape

        def draw(i, image):
            transform_key, noise_key = random.split(random.fold_in(random.fold_in(self.key, image), i))
            noise = random.normal(noise_key, shape)
            return sample_transform(transform_key, self.config, *shape[:2]).matrix, self.jax.numpy.moveaxis(noise, -1, 0)

        over_images = self.jax.vmap(draw, (None, 0))
        matrices, noise = self.jax.vmap(over_images, (0, None))(self.jax.numpy.arange(self.job.samples), self.ids)
        levels = noise_levels(self.job.samples, self.config.noise_alpha, self.config.schedule)
        np.savez(self.job.drawn, matrices=matrices, noise=noise, levels=levels)

    def answer(self) -> dict[str, np.ndarray]:
        """As `TorchSide.answer`: W_eff by the deterministic core from the samples written, the rest by `explain` with its own."""
        drawn = np.load(self.job.drawn)

        def w_eff(image, target, matrix, noise, t):
            return self.dave.effective_transformation(self.model, image, target, matrix=matrix, noise=np.moveaxis(noise, 0, -1), t=t)

        rows = zip(drawn["matrices"], drawn["noise"], drawn["levels"], strict=True)
        return {
            "w_eff": np.asarray([[w_eff(*pair, t) for pair in zip(self.images, self.targets, *row, strict=True)] for *row, t in rows]),
            "raw": np.asarray(self._explain(raw=True)),
            "heat": np.asarray(self._explain()),
        }

    def run(self) -> None:
        """Explain the images once: what is timed."""
        self._explain().block_until_ready()

    def _explain(self, **options):
        return self.dave.explain(self.model, self.images, self.targets, key=self.key, config=self.config, image_ids=self.ids, **options)
