"""The denoising network: diffusers' UNet2DModel, sized for the data, and how it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch.utils.flop_counter import FlopCounterMode

from training.config import Config, ConfigError

# Multiples of the first width, and the one level with attention, in the paper's UNets.
_PAPER_MULTIPLES = (1, 1, 2, 2, 4, 4)
_PAPER_ATTENTION_LEVEL = 4


def unet_arguments(
    config: Config, resolution: int, channels: int, n_classes: int = 0
) -> dict[str, Any]:
    """Arguments of UNet2DModel for the options and the data.

    ``--unet W`` is the paper's: widths W·(1, 1, 2, 2, 4, 4), two layers a level, attention in the
    fifth. ``--widths`` is for data and machines too small for that: one layer a level and no
    attention. Both have down- and upsampling between levels. With ``n_classes`` the embedding of
    the timestep has that of the class added, and the label ``n_classes`` stands for no class.

    Raises:
        ConfigError: the images cannot be halved as often as the levels need.
    """
    if config.unet is not None:
        widths = tuple(config.unet * multiple for multiple in _PAPER_MULTIPLES)
        option, layers, groups, attention = f"--unet {config.unet}", 2, 16, _PAPER_ATTENTION_LEVEL
    else:
        assert config.widths is not None
        widths = config.widths
        option, layers, groups, attention = "--widths " + ",".join(map(str, widths)), 1, 8, None
        if min(widths) == groups:
            # A group of one channel would normalise away what embeddings add to each channel.
            groups //= 2
    levels = len(widths)
    divisor = 2 ** (levels - 1)
    if resolution % divisor:
        raise ConfigError(
            f"{option} has {levels} levels, so --resolution must be a multiple of {divisor},"
            f" got {resolution}"
        )
    has_attention = [level == attention for level in range(levels)]
    return {
        "sample_size": resolution,
        "in_channels": channels,
        "out_channels": channels,
        "layers_per_block": layers,
        "block_out_channels": widths,
        "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in has_attention),
        "up_block_types": tuple(
            "AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(has_attention)
        ),
        "norm_num_groups": groups,
        "add_attention": attention is not None,
        **({"num_class_embeds": n_classes + 1} if n_classes else {}),
    }


def build_unet(
    config: Config, resolution: int, channels: int, n_classes: int = 0, *, seed: int
) -> UNet2DModel:
    """A freshly initialised network on the CPU; the weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(**unet_arguments(config, resolution, channels, n_classes))


def count_parameters(config: Config, resolution: int, channels: int, n_classes: int = 0) -> int:
    """Parameters of the network, without allocating them."""
    with torch.device("meta"):
        model = UNet2DModel(**unet_arguments(config, resolution, channels, n_classes))
    return sum(p.numel() for p in model.parameters())


def count_flops(config: Config, resolution: int, channels: int) -> int:
    """Floating-point operations of the network for one image, a multiply and an add being two.

    To look up the embedding of a class takes none.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = UNet2DModel(**unet_arguments(config, resolution, channels))
        model(torch.empty(1, channels, resolution, resolution), torch.zeros(1))
    return int(counter.get_total_flops())


def model_bytes(model: UNet2DModel, *, seconds: float) -> bytes:
    """The content of model.safetensors: weights, the network's arguments, seconds of training."""
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    metadata = {"unet": json.dumps(dict(model.config)), "seconds": repr(seconds)}
    return bytes(save(tensors, metadata))


def load_model(path: Path) -> tuple[UNet2DModel, float]:
    """The network of a model.safetensors on the CPU, and the seconds that its training took."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    arguments = {k: v for k, v in json.loads(metadata["unet"]).items() if not k.startswith("_")}
    model = UNet2DModel(**arguments)
    model.load_state_dict(load_file(path))
    return model, float(metadata["seconds"])
