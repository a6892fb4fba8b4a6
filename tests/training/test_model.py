from __future__ import annotations

import pytest
import torch

from training import model
from training.config import Config, ConfigError


@pytest.mark.parametrize(
    ("widths", "resolution", "channels"),
    [((8,), 5, 1), ((8, 16), 8, 3), ((16, 16, 24), 12, 1), ((8, 8, 8, 8), 8, 3)],
)
def test_the_network_predicts_an_image_of_its_input(widths, resolution, channels):
    unet = model.build_unet(Config(widths=widths), resolution, channels, seed=0)
    images = torch.zeros(2, channels, resolution, resolution)
    assert unet(images, torch.tensor([0, 999])).sample.shape == images.shape


@pytest.mark.parametrize("width", [32, 48, 64, 128])
def test_the_papers_network_has_its_widths_layers_and_one_level_of_attention(width):
    arguments = model.unet_arguments(Config(widths=None, unet=width), 32, 3)
    assert arguments["block_out_channels"] == tuple(width * m for m in (1, 1, 2, 2, 4, 4))
    assert (arguments["layers_per_block"], arguments["norm_num_groups"]) == (2, 16)
    assert [t.startswith("Attn") for t in arguments["down_block_types"]] == [False] * 4 + [
        True,
        False,
    ]
    assert [t.startswith("Attn") for t in arguments["up_block_types"]] == [False, True] + [
        False
    ] * 4


def test_the_papers_network_runs():
    unet = model.build_unet(Config(widths=None, unet=32), 32, 3, seed=0)
    with torch.inference_mode():
        assert unet(torch.zeros(1, 3, 32, 32), 5).sample.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("options", "resolution", "message"),
    [
        ({"widths": (8, 8, 8)}, 10, "--widths 8,8,8 has 3 levels.*multiple of 4, got 10"),
        ({"widths": None, "unet": 48}, 8, "--unet 48 has 6 levels.*multiple of 32, got 8"),
    ],
)
def test_images_that_cannot_be_halved_are_refused(options, resolution, message):
    with pytest.raises(ConfigError, match=message):
        model.unet_arguments(Config(**options), resolution, 1)


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_global_state():
    state = torch.random.get_rng_state()
    first, again, other = (model.build_unet(Config(), 8, 1, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    name = "conv_in.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_parameters_are_counted_without_building():
    unet = model.build_unet(Config(), 8, 1, seed=0)
    assert model.count_parameters(Config(), 8, 1) == sum(p.numel() for p in unet.parameters())


def test_operations_are_those_of_the_convolutions_and_matrix_products():
    """A multiply and an add for each weight and each place where it is used."""
    unet = model.build_unet(Config(widths=(8, 16)), 8, 3, seed=0)
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        counted += 2 * output.numel() * module.weight[0].numel()

    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    unet(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    assert model.count_flops(Config(widths=(8, 16)), 8, 3) == counted


def test_a_stored_model_comes_back_the_same(tmp_path):
    unet = model.build_unet(Config(widths=(8, 16)), 8, 3, seed=3)
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.model_bytes(unet, seconds=1.25))
    again, seconds = model.load_model(path)
    assert seconds == 1.25
    assert again.config.block_out_channels == [8, 16]
    assert again.state_dict().keys() == unet.state_dict().keys()
    for name, value in unet.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
