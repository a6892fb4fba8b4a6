"""Training of one generation's diffusion model, interruptible at any step."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch.nn.functional import mse_loss
from tqdm import tqdm

from training.budget import UNLIMITED, Budget, BudgetSpent
from training.config import Config
from training.device import (
    autocast,
    callable_network,
    memory_format,
    resolve_device,
    resolve_precision,
)
from training.labels import Labels
from training.model import build_unet
from training.processes import ALONE, Processes

_BETAS = (0.95, 0.999)
_WEIGHT_DECAY = 1e-6
_MAX_GRADIENT_NORM = 1.0
_WARMUP_STEPS = 500
_STEPS_PER_LOOK = 20  # at the clock, and for the bar


def noise_schedule() -> DDPMScheduler:
    """The forward process of training and sampling: linear beta, 1,000 steps, predicting noise.

    Timesteps are spaced from the last one down, so that a short sampling run starts from noise as
    pure as the network was trained on.
    """
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        prediction_type="epsilon",
        timestep_spacing="trailing",
    )


def learning_rate(config: Config, step: int) -> float:
    """Rate at a step: linear warm-up, then half a cosine down to zero.

    The warm-up is 500 steps, or a tenth of the training where that is shorter, so that a short run
    does not spend itself on warming up.
    """
    warmup = min(_WARMUP_STEPS, config.steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))


class _Batches:
    """Batches of image indices: one shuffled pass over the images after another, end to end."""

    def __init__(self, config: Config, n: int, generation: int, device: torch.device) -> None:
        self._n, self._size = n, config.batch_size

        # Two consecutive batches share at most two passes.
        @functools.lru_cache(maxsize=2)
        def shuffled(epoch: int) -> torch.Tensor:  # [n]
            generator = torch.Generator(device)
            generator.manual_seed(config.derive_seed("order", generation, epoch))
            return torch.randperm(n, generator=generator, device=device)

        self._shuffled = shuffled

    def __call__(self, step: int) -> torch.Tensor:  # [batch_size]
        first = step * self._size
        epochs = range(first // self._n, (first + self._size - 1) // self._n + 1)
        order = torch.cat([self._shuffled(epoch) for epoch in epochs])
        return order[first % self._n :][: self._size]


class _State:
    """All that training changes: what a checkpoint holds."""

    def __init__(self, config: Config, model: UNet2DModel, precision: str) -> None:
        self.model = model
        self.parameters = dict(model.named_parameters())
        device = model.device
        # Fused: on a CUDA device no host sync, not even with the loss scaler of fp16; on a CPU a
        # quarter of the time.
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.lr,
            betas=_BETAS,
            weight_decay=_WEIGHT_DECAY,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.average = (
            None
            if config.ema is None
            else {name: p.detach().clone() for name, p in self.parameters.items()}
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state by name, each its own memory."""
        found = {f"model.{name}": p.detach() for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            for key, value in self.optimizer.state[p].items():
                found[f"optimizer.{key}.{name}"] = value
        for name, value in (self.average or {}).items():
            found[f"average.{name}"] = value
        for key, number in self.scaler.state_dict().items():
            found[f"scaler.{key}"] = torch.tensor(number)
        return {name: tensor.cpu().contiguous() for name, tensor in found.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over the tensors of :meth:`tensors`."""
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(tensors[f"model.{name}"])
                if self.average is not None:
                    self.average[name].copy_(tensors[f"average.{name}"])
        # In the layout of the weights, which the optimizer takes for granted.
        moments = {
            i: {
                "step": tensors[f"optimizer.step.{name}"],
                **{
                    key: torch.empty_like(p).copy_(tensors[f"optimizer.{key}.{name}"])
                    for key in ("exp_avg", "exp_avg_sq")
                },
            }
            for i, (name, p) in enumerate(self.parameters.items())
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if self.scaler.is_enabled():
            names = self.scaler.state_dict()
            self.scaler.load_state_dict({name: tensors[f"scaler.{name}"].item() for name in names})


def _save_checkpoint(
    write: Callable[[Path, bytes], None], path: Path, state: _State, step: int, seconds: float
) -> None:
    metadata = {"step": str(step), "seconds": repr(seconds)}
    write(path, bytes(save(state.tensors(), metadata)))


def _load_checkpoint(path: Path, state: _State) -> tuple[int, float]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state.restore(load_file(path))
    return int(metadata["step"]), float(metadata["seconds"])


def train(
    config: Config,
    images: npt.NDArray[np.uint8],
    labels: Labels | None = None,
    n_classes: int = 0,
    *,
    generation: int,
    checkpoint: Path,
    progress: bool = False,
    processes: Processes = ALONE,
    budget: Budget = UNLIMITED,
) -> tuple[UNet2DModel, float]:
    """Train a new model on images, from the checkpoint where there is one.

    The set-up is that of arXiv:2509.16499: AdamW with betas (0.95, 0.999) and weight decay 1e-6,
    gradients clipped to norm 1, the noise predicted at a uniform random timestep. Every random
    draw is a function of (seed, generation, step), so the weights do not depend on where training
    was interrupted, and arms see the same noise in the same order. Several processes share the
    images of every step, with the noise that one would give them: only rounding tells them apart.

    Args:
        images: uint8 [N, H, W, C], H = W, C = 1 or 3; kept on the device throughout.
        labels: int64 [N], below n_classes, to train a class-conditional model; each is hidden from
            a step with the probability ``--label-dropout``.
        n_classes: with labels, how many classes there are, in the images or not.
        checkpoint: written every ``checkpoint_every`` steps; left for the caller to remove.
        progress: show a bar where stderr is a terminal.
        processes: those that train together, each with the same arguments.
        budget: time to keep to; what the folder of the checkpoint may hold.

    Returns:
        The model to sample from, on its device (with ``--ema`` its averaged weights), and the
        seconds that training took over all its interruptions.

    Raises:
        ConfigError: the model does not fit the images, or can not be compiled.
        BudgetSpent: the time is over, and the checkpoint is of the last step; or the checkpoint
            does not fit.
        DiskFullError: no space for a checkpoint.
        LostError: another process has ended.
    """
    device = resolve_device(config)
    precision = resolve_precision(config, device)
    n, resolution, _, channels = images.shape
    seed = config.derive_seed("weights", generation)
    layout = memory_format(config, resolution)
    model = build_unet(config, resolution, channels, n_classes, seed=seed).train()
    model.to(device, memory_format=layout)
    network = callable_network(config, model)
    state = _State(config, model, precision)
    first, seconds_before = 0, 0.0
    if processes.first(checkpoint.exists):
        first, seconds_before = _load_checkpoint(checkpoint, state)

    data = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()  # [N, C, H, W]
    classes = None if labels is None else torch.from_numpy(labels).to(device)  # [N]
    batches = _Batches(config, n, generation, device)
    schedule = noise_schedule()
    signal = schedule.alphas_cumprod.to(device)  # [1000]
    own = processes.share(config.batch_size)
    started = time.monotonic()

    def keep(step: int) -> None:
        """Make the checkpoint one of this many steps."""
        seconds = seconds_before + time.monotonic() - started
        processes.first(lambda: _save_checkpoint(budget.write, checkpoint, state, step, seconds))

    bar = tqdm(
        range(first, config.steps),
        desc="training",
        initial=first,
        total=config.steps,
        unit="step",
        leave=False,
        disable=None if progress else True,
    )
    for step in bar:
        if step % _STEPS_PER_LOOK == 0 and step > first:
            try:
                processes.first(budget.check_time)
            except BudgetSpent:
                keep(step)
                raise
        generator = torch.Generator(device)
        generator.manual_seed(config.derive_seed("training", generation, step))
        chosen = batches(step)
        clean = data[chosen].float() / 127.5 - 1  # [B, C, H, W]
        noise = torch.randn(clean.shape, generator=generator, device=device)
        timesteps = torch.randint(
            len(signal), (len(clean),), generator=generator, device=device
        )  # [B]
        kept = signal[timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        told = {}
        if classes is not None:
            hidden = torch.rand(len(chosen), generator=generator, device=device)
            hide = hidden < config.label_dropout
            told["class_labels"] = classes[chosen].masked_fill(hide, n_classes)[own]
        with autocast(device, precision):
            predicted = network(
                noisy[own].contiguous(memory_format=layout),
                timesteps[own],
                **told,
                return_dict=False,
            )[0]
        loss = mse_loss(predicted.float(), noise[own])
        _update(config, state, loss, step, processes)
        if not bar.disable and step % _STEPS_PER_LOOK == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
            keep(step + 1)

    if state.average is not None:
        model.load_state_dict(state.average)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return model, seconds_before + time.monotonic() - started


def _update(
    config: Config, state: _State, loss: torch.Tensor, step: int, processes: Processes
) -> None:
    """One step of the optimizer and of the running average, by the loss of this process's part."""
    optimizer, scaler = state.optimizer, state.scaler
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    part = processes.share(config.batch_size)
    share = (part.stop - part.start) / config.batch_size  # 1 for one process
    torch.autograd.backward(scaler.scale(share * loss))
    processes.add_gradients(state.parameters.values())
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(state.parameters.values(), _MAX_GRADIENT_NORM)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if state.average is not None and config.ema is not None:
        # Early on a long average would still be mostly the initial weights.
        decay = min(config.ema, (1 + step) / (10 + step))
        parameters = [p.detach() for p in state.parameters.values()]
        torch._foreach_lerp_(list(state.average.values()), parameters, 1 - decay)
