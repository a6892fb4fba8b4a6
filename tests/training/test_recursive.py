from __future__ import annotations

import dataclasses
import json
import signal

import numpy as np
import pytest
import torch

import fastsel
from training import arms, plan, recursive, select
from training.config import Config
from training.experiment import Experiment, load_extractors
from training.generation import run_generation
from training.model import load_model
from training.plan import generations_to_train
from training.run import RunFolder
from training.train import train

ARMS = ("none", "greedy", "threshold")
TOY = Config(
    n=8,
    generations=3,
    widths=(8, 8),
    steps=3,
    batch_size=4,
    sampling_steps=2,
    metrics_extractors=("pixel",),
    metrics_real=10,
    device="cpu",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on two, and far slower where other work is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def keep_sigterm():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)


def run_all(config, images, path):
    folder = RunFolder(path)
    description = {"config": config.identity(), "data": {}, "versions": {}}
    with folder.opened(description):
        experiment = Experiment(config, folder, images, load_extractors(config))
        for arm, generation in generations_to_train(config):
            folder.finish(arm, generation, run_generation(experiment, arm, generation))
    return folder


def load(folder, arm, generation, name):
    with np.load(folder.generation_dir(arm, generation) / f"{name}.npz") as saved:
        return dict(saved)


@pytest.fixture(
    scope="module",
    params=[(p, k) for p in ("replace", "accumulate") for k in (1, 2, 5)],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def experiment(request, images, tmp_path_factory):
    paradigm, factor = request.param
    config = dataclasses.replace(TOY, paradigm=paradigm, pool_factor=factor)
    return config, run_all(config, images, tmp_path_factory.mktemp("run") / "run")


def test_every_arm_and_generation_has_a_line_with_its_metrics(experiment):
    _, folder = experiment
    records = folder.records()
    assert [(r["generation"], r["arm"]) for r in records] == [
        (g, arm) for g in (1, 2, 3) for arm in ARMS
    ]
    for record in records:
        assert np.isfinite(record["entropy_samples/pixel"])
        assert record["generalization/pixel"] > 0
        assert 0 <= record["real_share"] <= 1
        for phase in ("select", "train", "sample", "embed", "metrics"):
            assert record[f"seconds/{phase}"] >= 0
    first = [{k: v for k, v in r.items() if k != "arm"} for r in records[:3]]
    assert first[0] == first[1] == first[2]
    assert first[0]["real_share"] == 1.0


def test_picks_are_n_distinct_candidates_and_give_the_training_set_again(experiment, images):
    config, folder = experiment
    for arm in ARMS:
        for generation in (2, 3):
            picks = load(folder, arm, generation, "picks")
            places = set(zip(picks["generation"].tolist(), picks["index"].tolist(), strict=True))
            assert len(places) == config.n
            sources = {g for g, _ in places}
            oldest = 0 if config.paradigm == "accumulate" else generation - 1
            assert sources <= set(range(oldest, generation))
            candidates = config.n * (1 if arm == "none" else config.pool_factor)
            real = set(load(folder, arm, 1, "picks")["index"].tolist())
            for g, index in places:
                assert index in real if g == 0 else index < candidates
            share = np.mean(picks["generation"] == 0)
            record = next(
                r for r in folder.records() if (r["arm"], r["generation"]) == (arm, generation)
            )
            assert record["real_share"] == share


def test_each_model_is_sampled_as_often_as_its_arm_needs(experiment):
    config, folder = experiment
    for arm, generation in generations_to_train(config):
        count = len(load(folder, arm, generation, "samples")["images"])
        if generation == 3 or (arm == "none" and generation > 1):
            assert count == config.n
        else:
            assert count == config.n * config.pool_factor


def test_greedy_picks_are_those_of_fastsel_on_the_pool(experiment, images):
    config, folder = experiment
    pool = [load(folder, "greedy", 2, "samples")["images"]]
    if config.paradigm == "accumulate":
        pool.insert(0, load(folder, "greedy", 1, "samples")["images"])
        pool.insert(0, images[load(folder, "greedy", 1, "picks")["index"]])
    features = np.concatenate(pool).reshape(-1, 64).astype(np.float32)
    expected = fastsel.greedy_select(
        features, config.n, random_state=config.derive_seed("selection", 3)
    )
    assert np.array_equal(load(folder, "greedy", 3, "picks")["position"], expected)


def test_models_are_trained_anew_on_the_picks(experiment, images, tmp_path):
    """The recorded provenance is enough to train any model again, to the bit."""
    config, folder = experiment
    picks = load(folder, "threshold", 2, "picks")
    order = np.argsort(picks["position"])
    samples = load(folder, "threshold", 1, "samples")["images"]
    training = np.stack(
        [
            images[index] if generation == 0 else samples[index]
            for generation, index in zip(
                picks["generation"][order], picks["index"][order], strict=True
            )
        ]
    )
    model, _ = train(config, training, generation=2, checkpoint=tmp_path / "c")
    stored, _ = load_model(folder.generation_dir("threshold", 2) / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored.state_dict()[name])


def test_arms_differ_by_selection_alone(images, tmp_path):
    """With nothing to choose from, all arms pick everything: then all their numbers agree."""
    config = dataclasses.replace(TOY, pool_factor=1, generations=2)
    records = run_all(config, images, tmp_path / "run").records()
    numbers = [
        {k: v for k, v in r.items() if not k.startswith("seconds/") and k != "arm"}
        for r in records[3:]
    ]
    assert numbers[0] == numbers[1] == numbers[2]


def test_an_arm_does_not_depend_on_which_others_run(images, tmp_path):
    config = dataclasses.replace(TOY, generations=2)
    together = run_all(config, images, tmp_path / "all")
    for arm in ARMS:
        alone = run_all(dataclasses.replace(config, arms=(arm,)), images, tmp_path / arm)
        for name in ("picks", "samples"):
            ours, theirs = load(alone, arm, 2, name), load(together, arm, 2, name)
            assert all(np.array_equal(ours[k], theirs[k]) for k in ours if k != "seconds")


@pytest.mark.parametrize("options", [{"arms": ("greedy",)}, {"generations": 1}])
def test_the_smallest_experiments_run(images, tmp_path, options):
    config = dataclasses.replace(TOY, n=20, **options)
    records = run_all(config, images, tmp_path / "run").records()
    assert len(records) == config.generations * len(config.arms)


def pool_features(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_picks_n_distinct_members_by_the_seed(arm):
    config = dataclasses.replace(TOY, n=10)
    features = pool_features(30)
    picks = select.pick(config, arm, features, generation=2)
    assert picks.dtype == np.int64
    assert len(set(picks.tolist())) == 10
    assert np.array_equal(picks, select.pick(config, arm, features, generation=2))
    assert not np.array_equal(picks, select.pick(config, arm, features, generation=3))


def test_no_selection_draws_evenly():
    config = dataclasses.replace(TOY, n=10)
    counts = np.zeros(30)
    for generation in range(300):
        counts[
            select.pick(config, "none", np.empty((30, 0), np.float32), generation=generation)
        ] += 1
    assert counts.min() > 60
    assert counts.max() < 140


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_automatic_threshold_follows_the_scale_of_the_features(scale):
    features = pool_features(700)
    base = arms.auto_threshold(features, seed=1)
    distances = torch.pdist(torch.from_numpy(features)).median().item()
    assert base == pytest.approx(distances, rel=0.1)
    scaled = (features * np.float32(scale)).astype(np.float32)
    assert arms.auto_threshold(scaled, seed=1) == pytest.approx(base * scale, rel=1e-5)


@pytest.mark.parametrize("different", [1, 2, 9, 10, 11])
@pytest.mark.parametrize("arm", ARMS)
def test_a_pool_of_copies_can_still_be_picked_from(arm, different):
    config = dataclasses.replace(TOY, n=10)
    features = np.repeat(pool_features(different), 8, axis=0)
    features = np.concatenate([features, features])
    picks = select.pick(config, arm, features, generation=2)
    assert picks.dtype == np.int64
    assert len(set(picks.tolist())) == 10
    if arm != "none":
        assert len(np.unique(features[picks], axis=0)) == min(10, different)


def test_a_threshold_of_the_users_is_taken():
    features = np.arange(40, dtype=np.float32)[:, None]
    config = dataclasses.replace(TOY, n=5, threshold=3.5, decay=0.5)
    picks = np.sort(select.pick(config, "threshold", features, generation=2))
    assert np.diff(picks).min() >= 4


def test_the_plan_counts_what_is_made(images, tmp_path):
    folder = run_all(TOY, images, tmp_path / "run")
    size = sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file())
    assert size < plan.disk_bytes(TOY, 8, 1)
    sampled = sum(
        len(load(folder, arm, g, "samples")["images"]) for arm, g in generations_to_train(TOY)
    )
    assert f"{sampled} images in all" in plan.describe(TOY, "digits", 20, 8, 1)


TOY_COMMAND = [
    "--limit",
    "30",
    "--n",
    "8",
    "--generations",
    "2",
    "--widths",
    "8,8",
    "--steps",
    "3",
    "--batch-size",
    "4",
    "--sampling-steps",
    "2",
    "--metrics-extractors",
    "pixel",
    "--metrics-real",
    "10",
    "--device",
    "cpu",
]


def test_the_command_runs_reports_and_repeats_nothing(tmp_path, capsys):
    command = [*TOY_COMMAND, "--out", str(tmp_path / "run")]
    assert recursive.main(command) == 0
    printed = capsys.readouterr().out
    assert "generation 2/2  greedy" in printed
    assert printed.rstrip().endswith(f"report: {tmp_path / 'run' / 'report.html'}")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["n_images"] == 30
    assert config["config"]["n"] == 8
    assert {"fastsel", "torch", "diffusers", "numpy", "python"} <= config["versions"].keys()
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert recursive.main([*command, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "generation 2/2" not in printed
    assert "threshold" in printed
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert recursive.main([*TOY_COMMAND, "--out", str(out), "--dry-run", "--quiet"]) == 0
    printed = capsys.readouterr().out
    for word in ("30 images of 8x8x1", "4 to train", "3 steps of 4", "parameters", "MB in"):
        assert word in printed
    assert not out.exists()


def test_a_dry_run_of_a_paper_preset_needs_neither_its_data_nor_a_gpu(capsys):
    command = ["--preset", "paper-ffhq", "--data", "no/such/folder", "--dry-run"]
    assert recursive.main(command) == 0
    printed = capsys.readouterr().out
    for line in ("--n 8192", "--steps 128256", "--unet 48", "--sampling-steps 1000"):
        assert f"\n{line}\n" in printed
    assert "no such file or folder: no/such/folder" in printed.partition("missing here")[2]


def test_the_predicted_cost_follows_its_formula(capsys):
    training, sampling = plan.run_flops(TOY, 8, 1)
    one = training // (3 * TOY.steps * TOY.batch_size * 7)
    assert one > 0
    assert training == 3 * one * 3 * 4 * 7  # 1 shared model and 2 of each of three arms
    # 16 of the shared one; 8, 16, 16 of the second generation; 8 each of the last.
    assert sampling == one * 2 * (16 + 8 + 16 + 16 + 3 * 8)
    hours = f"{training / 10e12 / 3600:.3g} + {sampling / 10e12 / 3600:.3g} GPU hours"
    assert hours in plan.describe(TOY, "digits", 20, 8, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "31"], "--n must be at most 30"),
        (["--widths", "8,8,8,8,8"], "multiple of 16, got 8"),
        (["--steps", "0"], "--steps must be"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--device", "tpu"], "--device must be"),
    ],
)
def test_a_users_mistake_is_one_line_and_changes_nothing(tmp_path, capsys, options, message):
    out = tmp_path / "run"
    assert recursive.main([*TOY_COMMAND, "--out", str(out), *options]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1
    assert not out.exists()


def test_another_configuration_is_refused(tmp_path, capsys):
    command = [*TOY_COMMAND, "--out", str(tmp_path / "run"), "--generations", "1"]
    assert recursive.main(command) == 0
    before = sorted(p for p in tmp_path.rglob("*"))
    assert recursive.main([*command, "--seed", "1", "--lr", "0.1"]) == 2
    printed = capsys.readouterr().err
    assert "--lr is 0.004 there, 0.1 here; --seed is 0 there, 1 here" in printed
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_an_error_of_ours_is_not_hidden(tmp_path, monkeypatch):
    def broken(argv):
        raise ValueError("a bug")

    monkeypatch.setattr(recursive, "parse_config", broken)
    with pytest.raises(ValueError, match="a bug"):
        recursive.main([])
