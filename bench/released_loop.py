"""The structure of the released script, which is that of diffusers' example, on our network.

Images lie in a folder of PNGs and are decoded again for every batch, the loss is fetched after
every step, and images are sampled by a pipeline in batches of its default, each stored as a PNG.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler
from diffusers.optimization import get_scheduler
from PIL import Image
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from training.config import Config
from training.model import build_unet

SAMPLING_BATCH = 16  # of the example


class Folder(Dataset[torch.Tensor]):
    """The images of a folder, decoded when they are asked for."""

    def __init__(self, root: Path, channels: int) -> None:
        self.paths = sorted(root.glob("*.png"))
        self.mode = "L" if channels == 1 else "RGB"
        with Image.open(self.paths[0]) as image:
            side = image.width
        self.transform = transforms.Compose(
            [
                transforms.Resize(side),
                transforms.CenterCrop(side),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self.paths[i]) as image:
            pixels: torch.Tensor = self.transform(image.convert(self.mode))
        return pixels


def read(root: Path, channels: int) -> torch.Tensor:
    """All images once, [N, C, H, W] from -1 to 1."""
    folder = Folder(root, channels)
    return torch.stack([folder[i] for i in range(len(folder))])


def train(config: Config, root: Path, channels: int) -> None:
    """As many steps as ours on a new network."""
    folder = Folder(root, channels)
    side = folder[0].shape[-1]
    model = build_unet(config, side, channels, seed=0)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.95, 0.999), weight_decay=1e-6
    )
    rates = get_scheduler(
        "cosine",
        optimizer,
        num_warmup_steps=config.steps // 10,
        num_training_steps=config.steps,
    )
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
    loader = DataLoader(folder, config.batch_size, shuffle=True)
    step, logs = 0, []
    while step < config.steps:
        for clean in loader:
            if step == config.steps:
                break
            noise = torch.randn(clean.shape)
            timesteps = torch.randint(0, 1000, (len(clean),))
            noisy = noise_scheduler.add_noise(clean, noise, timesteps)
            loss = mse_loss(model(noisy, timesteps).sample, noise)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
            logs.append(loss.detach().item())
            step += 1


def sample(config: Config, images: Any, out: Path) -> None:
    """As many images as ours, from a new network, each in a file."""
    model = build_unet(config, images.shape[1], images.shape[3], seed=0).eval()
    pipeline = DDPMPipeline(model, DDPMScheduler(num_train_timesteps=1000))
    pipeline.set_progress_bar_config(disable=True)
    out.mkdir(exist_ok=True)
    for first in range(0, config.n, SAMPLING_BATCH):
        made = pipeline(
            batch_size=min(SAMPLING_BATCH, config.n - first),
            num_inference_steps=config.sampling_steps,
        ).images
        for i, image in enumerate(made, first):
            image.save(out / f"{i:05}.png")
