"""Features of images: pixels, EfficientNet-Lite0, CLIP, DINOv2 and Inception, each by its name.

A network never stands in for another: where its weights cannot be had, `ExtractorError` says how
to get them. `training.backbones` loads the networks; here they meet images, batches and the cache.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from training.backbones import LOADERS, Backbone, ExtractorError
from training.budget import UNLIMITED, Budget
from training.processes import ALONE, Processes

__all__ = ["EXTRACTORS", "Extractor", "ExtractorError", "extract", "load_extractor"]

EXTRACTORS: tuple[str, ...] = ("pixel", *LOADERS)

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


class Extractor:
    """From images, uint8 [N, H, W, C] with C 1 or 3, to features, float32 [N, D].

    Attributes:
        name: what figures made from the features are called by. It is the name that was asked
            for, except "inception_custom" for Inception with weights that are not the standard
            ones.
    """

    def __init__(
        self, name: str, backbone: Backbone | None, *, device: str, batch_size: int
    ) -> None:
        self.name = name
        self._backbone = backbone
        self._device = device
        self._batch_size = batch_size

    @cached_property
    def identity(self) -> str:
        """A digest of everything that decides the features: the weights, and what goes in."""
        digest = hashlib.sha256(self.name.encode())
        if self._backbone is not None:
            digest.update(self._backbone.recipe.encode())
            for key, value in self._backbone.network.state_dict().items():
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, images: Images, processes: Processes = ALONE) -> Features:
        """Extract features; pixels are flattened, in 0..255, as floats that do not wrap around.

        A network's features may differ in the last bits, by about 1e-5 of their size, with the
        batch size, the number of threads and the device. Greys are repeated over three channels.
        Several processes, each given the same images, share the batches and all get all features.

        Raises:
            ValueError: the images are not uint8 [N, H, W, 1 or 3], or there are none.
            LostError: another process has ended.
        """
        _check(images)
        if self._backbone is None:
            return images.reshape(len(images), -1).astype(np.float32)
        backbone = self._backbone
        starts = range(0, len(images), self._batch_size)

        def forward(start: int) -> Features:
            part = np.ascontiguousarray(images[start : start + self._batch_size])
            batch = torch.tensor(part, device=self._device)  # a copy: images may be read-only
            batch = batch.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)  # [B, 3, H, W]
            features: Features = backbone.forward(batch).float().cpu().numpy()
            bar.update(processes.size)
            return features

        # One batch needs no bar; None: on a terminal only.
        quiet = True if len(starts) == 1 or not processes.leads else None
        with (
            torch.inference_mode(),
            tqdm(total=len(starts), desc=self.name, unit="", leave=False, disable=quiet) as bar,
        ):
            return np.concatenate(processes.spread(starts, forward))

    def logits(self, features: Features) -> Features | None:
        """Logits float32 [N, C] from features, by a network that tells classes; None by others."""
        if self._backbone is None or self._backbone.class_weights is None:
            return None
        weights = self._backbone.class_weights.detach().float().cpu().numpy()
        return np.asarray(features @ weights.T)


def load_extractor(
    name: str, *, weights: str | None = None, device: str = "cpu", batch_size: int = 64
) -> Extractor:
    """Load an extractor of `EXTRACTORS` by its name.

    Args:
        name: "pixel"; or a network, whose features, input size and weights
            `training.backbones` states: "efficientnet_lite0" [N, 320], "clip" [N, 512], "dinov2"
            [N, 384], "inception" [N, 2048], "vgg16" [N, 4096].
        weights: a local file (.safetensors, or a state dict of torch.save); for clip also a tag
            of open_clip. None: efficientnet_lite0's from its package, the others' from their
            local caches or the network.
        device: where the network runs.
        batch_size: images at a time.

    Raises:
        ExtractorError: an unknown name, or weights that cannot be had or do not fit.
    """
    if name not in EXTRACTORS:
        raise ExtractorError(f"extractor must be one of {', '.join(EXTRACTORS)}, got {name!r}")
    if batch_size < 1:
        raise ExtractorError(f"batch_size must be at least 1, got {batch_size}")
    if name == "pixel":
        if weights is not None:
            raise ExtractorError(f"pixel has no weights, got {weights!r}")
        return Extractor(name, None, device=device, batch_size=batch_size)
    backbone = LOADERS[name](weights)
    backbone.network.eval().requires_grad_(False).to(device)
    return Extractor(backbone.name, backbone, device=device, batch_size=batch_size)


def extract(
    extractor: Extractor,
    images: Images,
    *,
    cache_dir: Path | None = None,
    processes: Processes = ALONE,
    budget: Budget = UNLIMITED,
) -> Features:
    """Features of images, float32 [N, D], from the cache where they are there.

    A cache file is named by the content of the images and of the extractor, so it can be shared,
    and never goes stale. It is written whole or not at all; a damaged one is made again. Pixels
    are not cached: to read them takes as long as to make them.

    Args:
        processes: those that extract together, each with the same images; all get all features.
        budget: what the folder of the run may hold.

    Raises:
        ValueError: images as `Extractor` does not take them.
        OSError: the cache cannot be written.
        BudgetSpent: the cache would take more than the budget has.
        LostError: another process has ended.
    """
    _check(images)
    if cache_dir is None or extractor.name == "pixel":
        return extractor(images, processes)
    key = hashlib.sha256(f"{extractor.identity} {images.shape}".encode())
    key.update(np.ascontiguousarray(images).data)
    path = cache_dir / f"{extractor.name}-{key.hexdigest()[:32]}.npz"
    features = processes.first(lambda: _read_cache(path, len(images)))
    if features is None:
        features = made = extractor(images, processes)
        content = io.BytesIO()
        np.savez(content, features=made)  # unlike .npy, it has a checksum
        processes.first(lambda: budget.write(path, content.getvalue()))
    return features


def _read_cache(path: Path, n: int) -> Features | None:
    """The features in a cache file; None where there is none, or a damaged one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            features: Features = saved["features"]
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile):
        return None
    sound = features.dtype == np.float32 and features.ndim == 2 and len(features) == n
    return features if sound else None


def _check(images: Images) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            "images must be uint8 [N, H, W, C] with C 1 or 3,"
            f" got {images.dtype} {list(images.shape)}"
        )
    if images.size == 0:
        raise ValueError(f"images must not be empty, got shape {list(images.shape)}")
