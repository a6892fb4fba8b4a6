"""Class-conditional models: labels through the generations, label dropout, guidance."""

from __future__ import annotations

import dataclasses
import json
import types

import numpy as np
import pytest
import torch
from test_recursive import TOY, load

from training import recursive
from training import train as training
from training.config import Config
from training.experiment import Experiment, load_extractors
from training.generation import run_generation
from training.labels import sampling_labels
from training.model import build_unet, count_parameters, load_model, model_bytes, unet_arguments
from training.plan import describe, generations_to_train, run_flops
from training.run import RunFolder
from training.sample import sample
from training.train import train

GUIDED = dataclasses.replace(TOY, condition="class", label_dropout=0.3, guidance=2.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on two, and far slower where other work is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(6).permutation(np.repeat([0, 1, 3], [12, 5, 3]))  # no image of 2


# --- the classes that are sampled -----------------------------------------------------------------


def test_samples_have_the_classes_of_the_training_set(labels):
    drawn = sampling_labels(GUIDED, labels, generation=2, count=50)
    assert drawn.dtype == np.int64
    for start in (0, 20):
        assert np.array_equal(np.bincount(drawn[start : start + 20]), np.bincount(labels))
    assert not np.array_equal(drawn[:20], drawn[20:40])
    for count in (1, 20, 33):
        shorter = sampling_labels(GUIDED, labels, generation=2, count=count)
        assert np.array_equal(shorter, drawn[:count])
    others = [
        sampling_labels(GUIDED, labels, generation=3, count=50),
        sampling_labels(dataclasses.replace(GUIDED, seed=1), labels, generation=2, count=50),
    ]
    assert not any(np.array_equal(drawn, other) for other in others)


# --- the network ----------------------------------------------------------------------------------


def test_the_network_has_an_embedding_for_each_class_and_for_none(tmp_path):
    plain, told = (build_unet(TOY, 8, 1, n, seed=0) for n in (0, 3))
    assert told.class_embedding.num_embeddings == 4
    width = told.class_embedding.embedding_dim
    assert count_parameters(TOY, 8, 1, 3) - count_parameters(TOY, 8, 1) == 4 * width
    assert "num_class_embeds" not in unet_arguments(TOY, 8, 1)
    assert plain.class_embedding is None
    (tmp_path / "m").write_bytes(model_bytes(told, seconds=1.5))
    stored, seconds = load_model(tmp_path / "m")
    assert seconds == 1.5
    assert torch.equal(stored.class_embedding.weight, told.class_embedding.weight)


@pytest.mark.parametrize("widths", [(8,), (8, 16), (16, 8), (16, 32)])
def test_the_network_hears_the_timestep_and_the_class(widths):
    network = build_unet(Config(widths=widths), 8, 1, 3, seed=0).eval()
    noisy = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        outputs = [network(noisy, t, torch.tensor([c])).sample for t in (10, 900) for c in range(4)]
    for i, one in enumerate(outputs):
        for other in outputs[:i]:
            assert (one - other).abs().max() > 1e-3


# --- training -------------------------------------------------------------------------------------


class Recorder(torch.nn.Module):
    """A network that notes what it is told of a batch."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, noisy, timesteps, class_labels=None, return_dict=False):
        self.seen.append((noisy.clone(), timesteps, class_labels))
        return (self.weight * noisy,)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_labels_stay_with_their_images_and_are_hidden_at_random(monkeypatch, tmp_path, dropout):
    recorders = []

    def build(*arguments, **options):
        recorders.append(Recorder())
        return recorders[-1]

    monkeypatch.setattr(training, "build_unet", build)
    config = dataclasses.replace(
        GUIDED, label_dropout=dropout, guidance=1, steps=200, batch_size=20, checkpoint_every=999
    )
    labels = np.arange(40) % 4
    images = np.repeat(60 * labels, 64).reshape(40, 8, 8, 1).astype(np.uint8)
    train(config, images, labels, 4, generation=1, checkpoint=tmp_path / "a")
    train(config, images, generation=1, checkpoint=tmp_path / "b")
    told, untold = recorders
    hidden = 0
    for (noisy, timesteps, seen), (plain, same, nothing) in zip(
        told.seen, untold.seen, strict=True
    ):
        assert nothing is None
        assert torch.equal(timesteps, same)
        # Their labels are no reason for images to get other noise.
        assert torch.equal(noisy, plain)
        assert seen.min() >= 0
        assert seen.max() <= 4
        hidden += int((seen == 4).sum())
    assert hidden / 4000 == pytest.approx(dropout, abs=0.03)
    # At little noise the image shows: its grey is that of its class.
    shown = [
        (clear, label)
        for noisy, timesteps, seen in told.seen
        for clear, t, label in zip(noisy, timesteps.tolist(), seen.tolist(), strict=True)
        if t < 5 and label < 4
    ]
    assert len(shown) > 5
    for clear, label in shown:
        assert round((float(clear.mean()) + 1) * 127.5 / 60) == label


def test_a_model_learns_its_classes(tmp_path):
    """Black and white images: samples are of the colour that was asked for, with dropout too."""
    config = Config(
        n=16,
        widths=(16,),
        steps=300,
        batch_size=16,
        lr=1e-2,
        checkpoint_every=999,
        condition="class",
        label_dropout=0.2,
        guidance=1.5,
        sampler="ddim",
        sampling_steps=20,
        device="cpu",
    )
    labels = np.arange(16) % 2
    images = np.repeat(255 * labels, 16).reshape(16, 4, 4, 1).astype(np.uint8)
    model, _ = train(config, images, labels, 2, generation=1, checkpoint=tmp_path / "c")
    asked = np.array([0, 1, 1, 0, 1, 0, 0, 0])
    parts = sample(config, model, asked, generation=1, first=0, count=8)
    means = np.concatenate(list(parts)).mean(axis=(1, 2, 3))
    assert np.array_equal(means > 127, asked == 1)
    assert np.abs(means - 255 * asked).max() < 90


# --- sampling -------------------------------------------------------------------------------------


class Shifts:
    """Predicts the noise in an image that is the number of its class, the last standing for none.

    So sampling ends at that image, and guidance at one that it extrapolates.
    """

    device = torch.device("cpu")
    config = types.SimpleNamespace(in_channels=1, sample_size=4, num_class_embeds=4)

    def __init__(self):
        self.batches = []

    def eval(self):
        return self

    def to(self, memory_format):
        return self

    def __call__(self, images, t, classes, return_dict):
        self.batches.append(len(images))
        kept = training.noise_schedule().alphas_cumprod[t]
        target = torch.tensor([-0.6, -0.2, 0.2, -0.4])[classes].view(-1, 1, 1, 1)
        return ((images - kept.sqrt() * target) / (1 - kept).sqrt(),)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.0])
def test_guidance_moves_from_no_class_to_the_class_and_beyond(sampler, guidance):
    config = dataclasses.replace(
        GUIDED, guidance=guidance, sampler=sampler, sampling_steps=10, n=4, sampling_batch_size=4
    )
    asked, model = np.array([0, 1, 2, 1, 0, 2]), Shifts()
    parts = sample(config, model, asked, generation=1, first=0, count=6)
    images = np.concatenate(list(parts)).astype(int)
    assert len(images) == 6
    target = -0.4 + guidance * (np.array([-0.6, -0.2, 0.2])[asked] + 0.4)
    expected = np.round((target + 1) * 127.5)
    assert np.abs(images - expected[:, None, None, None]).max() <= 1
    assert set(model.batches) == ({4} if guidance == 1 else {8})


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_an_image_depends_on_its_own_class_alone(labels, sampler, guidance):
    config = dataclasses.replace(
        GUIDED, guidance=guidance, sampler=sampler, n=5, sampling_batch_size=5, sampling_steps=3
    )
    model = build_unet(config, 8, 1, 4, seed=0)

    def draw(asked, first=0):
        parts = sample(config, model, asked, generation=1, first=first, count=len(asked))
        return np.concatenate(list(parts))

    whole = draw(labels[:15])
    assert np.array_equal(draw(labels[:7]), whole[:7])
    assert np.array_equal(draw(labels[:13], first=5), whole[5:13])
    changed = labels[:15].copy()
    changed[3] = (changed[3] + 1) % 4
    differ = (draw(changed) != whole).any(axis=(1, 2, 3))
    assert np.flatnonzero(differ).tolist() == [3]


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("within", ["all", "class"])
@pytest.mark.parametrize("paradigm", ["replace", "accumulate", "accumulate-subsample", "fresh"])
def test_labels_go_through_the_generations(images, labels, tmp_path, paradigm, within):
    config = dataclasses.replace(
        GUIDED, paradigm=paradigm, arms=("none", "greedy"), select_within=within
    )
    folder = RunFolder(tmp_path / "run")
    with folder.opened({"config": config.identity(), "data": {}, "versions": {}}):
        experiment = Experiment(config, folder, images, load_extractors(config), labels, 4)
        for arm, generation in generations_to_train(config):
            folder.finish(arm, generation, run_generation(experiment, arm, generation))
    for arm, generation in generations_to_train(config):
        picks = load(folder, arm, generation, "picks")
        own = [
            labels[i] if g == 0 else load(folder, arm, g, "samples")["labels"][i]
            for g, i in zip(picks["generation"], picks["index"], strict=True)
        ]
        assert picks["label"].tolist() == own
        samples = load(folder, arm, generation, "samples")
        in_order = picks["label"][np.argsort(picks["position"])]
        expected = sampling_labels(
            config, in_order, generation=generation, count=len(samples["images"])
        )
        assert np.array_equal(samples["labels"], expected)
        first = np.bincount(load(folder, arm, 1, "picks")["label"], minlength=4)
        if within == "class" and paradigm == "replace":
            assert np.array_equal(np.bincount(picks["label"], minlength=4), first)
    for record in folder.records():
        by_class = record["by_class"]
        assert all(len(values) == 4 for values in by_class.values())
        picks = load(folder, record["arm"], record["generation"], "picks")
        shares = np.bincount(picks["label"], minlength=4) / 8
        assert by_class["share_train"] == shares.tolist()
        assert by_class["entropy_train/pixel"][2] is None  # the class without an image
        known = [value for value in by_class["entropy_samples/pixel"] if value is not None]
        assert record["entropy_samples_class/pixel"] == pytest.approx(np.mean(known))


def test_the_command_needs_classes_only_where_they_are_used(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "bare.npz", images=images)
    np.savez(tmp_path / "classes.npz", images=images, labels=np.arange(12) % 3)
    options = ["--preset", "smoke", "--limit", "all", "--n", "8", "--metrics-extractors", "pixel"]
    options += ["--steps", "2", "--device", "cpu", "--quiet", "--arms", "none"]

    def command(name, *more):
        data = str(tmp_path / f"{name}.npz")
        out = ["--out", str(tmp_path / "_".join(["run", name, *more]))]
        return recursive.main([*options, "--data", data, *out, *more])

    assert command("bare", "--condition", "class") == 2
    assert "--condition class needs images with classes, got --data" in capsys.readouterr().err
    assert command("classes") == 0
    assert command("classes", "--condition", "class", "--guidance", "3") == 0
    plain = tmp_path / "run_classes"
    told = tmp_path / "run_classes_--condition_class_--guidance_3"
    descriptions = [json.loads((run / "config.json").read_text())["data"] for run in (plain, told)]
    assert "class_names" not in descriptions[0]
    assert descriptions[1]["class_names"] == ["0", "1", "2"]
    assert descriptions[0]["digest"] != descriptions[1]["digest"]
    for run, there in ((plain, False), (told, True)):
        for name in ("picks", "samples"):
            with np.load(run / f"generations/none/02/{name}.npz") as saved:
                assert bool({"label", "labels"} & set(saved.files)) == there


def test_the_plan_says_what_guidance_costs():
    plain = dataclasses.replace(GUIDED, guidance=1)
    (training_cost, sampling), (same, twice) = (run_flops(c, 8, 1) for c in (plain, GUIDED))
    assert (training_cost, 2 * sampling) == (same, twice)
    line = "\nclasses     3, hidden from 30% of the images of a step; guidance 2\n"
    assert line in describe(GUIDED, "digits", 20, 8, 1, 3)
    assert "\nclasses     those of the data, hidden" in describe(GUIDED, "digits", None, 8, 1)
    assert "classes" not in describe(TOY, "digits", 20, 8, 1)
