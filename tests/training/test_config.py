from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from training import embed
from training.config import EXTRACTORS, Config, ConfigError, flag, seed_runs
from training.parser import command_line, parse_config
from training.presets import PRESETS


def test_no_arguments_give_the_digits_preset():
    config = parse_config([])
    assert dataclasses.replace(config, out=None) == Config()
    assert config.data == "digits"
    assert config.arms == ("none", "greedy", "threshold")
    assert config.generations >= 3


def test_every_field_is_an_option_and_can_override_a_preset():
    texts = {
        "data": "photos.zip",
        "limit": "500",
        "resolution": "16",
        "channels": "3",
        "n": "100",
        "generations": "5",
        "arms": "greedy,none",
        "paradigm": "accumulate",
        "pool_factor": "5",
        "fresh_fraction": "0.25",
        "seed": "7",
        "seeds": "7,8",
        "max_hours": "1.5",
        "max_disk": "20",
        "track": "wandb",
        "extractor": "clip",
        "extractor_weights": "clip=a.pt,dinov2=b.pt",
        "select_within": "class",
        "threshold": "2.5",
        "decay": "0.8",
        "decay_when": "stalled",
        "dedup_radius": "1.5",
        "metrics_extractors": "pixel,clip",
        "metrics_real": "99",
        "widths": "16,32",
        "unet": "none",
        "condition": "class",
        "label_dropout": "0.2",
        "steps": "10",
        "batch_size": "3",
        "lr": "0.5",
        "ema": "0.99",
        "mixed_precision": "no",
        "compile": "yes",
        "sampler": "ddim",
        "sampling_steps": "7",
        "guidance": "1.5",
        "sampling_batch_size": "9",
        "out": "somewhere",
        "device": "cpu",
        "threads": "2",
        "checkpoint_every": "3",
        "dry_run": None,
        "quiet": None,
    }
    assert set(texts) == {f.name for f in dataclasses.fields(Config)}
    argv = ["--preset", "paper-cifar10"]
    for name, text in texts.items():
        argv += [flag(name)] if text is None else [flag(name), text]
    config = parse_config(argv)
    assert config == Config(
        data="photos.zip",
        limit=500,
        resolution=16,
        channels=3,
        n=100,
        generations=5,
        arms=("greedy", "none"),
        paradigm="accumulate",
        pool_factor=5,
        fresh_fraction=0.25,
        seed=7,
        seeds=(7, 8),
        max_hours=1.5,
        max_disk=20.0,
        track="wandb",
        extractor="clip",
        extractor_weights=(("clip", "a.pt"), ("dinov2", "b.pt")),
        select_within="class",
        threshold=2.5,
        decay=0.8,
        decay_when="stalled",
        dedup_radius=1.5,
        metrics_extractors=("pixel", "clip"),
        metrics_real=99,
        widths=(16, 32),
        unet=None,
        condition="class",
        label_dropout=0.2,
        steps=10,
        batch_size=3,
        lr=0.5,
        ema=0.99,
        mixed_precision="no",
        compile="yes",
        sampler="ddim",
        sampling_steps=7,
        guidance=1.5,
        sampling_batch_size=9,
        out="somewhere",
        device="cpu",
        threads=2,
        checkpoint_every=3,
        dry_run=True,
        quiet=True,
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--n", "many"], "--n must be a whole number of at least 2, got 'many'"),
        (["--n", "1"], "--n must be a whole number of at least 2, got '1'"),
        (["--lr", "nan"], "--lr must be a finite number greater than 0, got 'nan'"),
        (["--lr", "inf"], "--lr must be a finite number greater than 0, got 'inf'"),
        (["--decay", "1"], "--decay must be a number greater than 0 and less than 1, got '1.0'"),
        (["--channels", "2"], "--channels must be one of 1, 3, or auto, got '2'"),
        (["--threshold", "-1"], "--threshold must be a finite number greater than 0, or auto"),
        (["--arms", "none,random"], "each one of none, random-2N, greedy, greedy-entropy, "),
        (["--arms", "none,none"], "none of them twice, got 'none,none'"),
        (["--arms", ""], "--arms must be"),
        (["--arms", "real-fraction,greedy"], "--arms must have greedy before real-fraction"),
        (["--arms", "greedy,real-fraction"], "--paradigm must be accumulate"),
        (["--widths", "12"], "each a positive multiple of 8, or none, got '12'"),
        (["--sampling-steps", "1001"], "a whole number from 1 to 1000, got '1001'"),
        (["--extractor-weights", "pixel=x"], "--extractor-weights must be NAME=PATH"),
        (["--extractor-weights", "clip"], "--extractor-weights must be NAME=PATH"),
        (["--data", ""], "--data must be digits, a folder"),
        (["--preset", "huge"], "--preset must be one of digits, smoke, paper-cifar10"),
        (["--preset", "paper-ffhq"], "--data must be"),
        (["--unet", "48", "--widths", "8"], "exactly one of --widths and --unet"),
        (["--label-dropout", "1"], "a number of at least 0 and less than 1, got '1.0'"),
        (["--guidance", "-1"], "--guidance must be a finite number of at least 0, got '-1.0'"),
        (["--guidance", "2"], "--guidance 2 needs --condition class and a --label-dropout above 0"),
        (
            ["--condition", "class", "--guidance", "2", "--label-dropout", "0"],
            "got --condition class and --label-dropout 0",
        ),
        (["--select-within", "class"], "--condition must be class, got none"),
        (["--bogus", "1"], "unrecognized arguments: --bogus"),
        (["--gen", "2"], "unrecognized arguments: --gen"),
        (["--n"], "--n: expected one argument"),
    ],
)
def test_an_error_names_the_option_the_value_and_what_was_expected(argv, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(argv)
    assert message in str(caught.value)


def test_python_callers_meet_the_same_checks():
    with pytest.raises(ConfigError, match="--generations must be a whole number of at least 1"):
        Config(generations=True)
    with pytest.raises(ConfigError, match="--arms must be"):
        Config(arms=("none", "none"))


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"paper-ffhq"}))
def test_every_preset_parses(preset):
    assert parse_config(["--preset", preset]).out.startswith(f"runs/{preset}-")


def test_paper_presets_hold_the_papers_values():
    for name, n in [("paper-cifar10", 32_768), ("paper-ffhq", 8_192), ("paper-mnist", 12_000)]:
        config = parse_config(["--preset", name, "--data", "x"])
        assert (config.n, config.resolution, config.unet) == (n, 32, 48)
        assert (config.lr, config.batch_size, config.mixed_precision) == (1e-4, 128, "fp16")
        assert (config.sampler, config.sampling_steps, config.ema) == ("ddpm", 1000, None)
        assert (config.condition, config.guidance) == ("none", 1)
    plain, guided = (parse_config(["--preset", f"paper-mnist{end}"]) for end in ("", "-cfg"))
    own = {"paradigm": "accumulate", "condition": "class", "guidance": 2.0, "out": guided.out}
    assert dataclasses.replace(plain, **own) == guided


def test_paper_presets_follow_the_paper_and_its_code_where_asked():
    paper = ["--preset", "paper-cifar10"]
    config = parse_config(paper)
    assert (config.decay_when, config.decay, config.threshold) == ("stalled", 0.95, 60.0)
    config = parse_config([*paper, "--as-released"])
    assert (config.decay_when, config.decay, config.threshold) == ("sweep", 0.95, 60.0)
    config = parse_config([*paper, "--as-released", "--paradigm", "accumulate"])
    assert (config.decay_when, config.decay, config.threshold) == ("sweep", 0.8, 60.0)
    config = parse_config([*paper, "--as-released", "--extractor", "pixel", "--decay", "0.7"])
    assert (config.decay_when, config.decay, config.threshold) == ("sweep", 0.7, 2000.0)
    config = parse_config(["--preset", "paper-mnist-cfg", "--as-released"])
    assert (config.decay_when, config.decay, config.guidance) == ("sweep", 0.8, 2.0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--as-released needs a preset of the paper, got --preset digits"),
        (["--preset", "paper-mnist", "--paradigm", "fresh"], "replace, accumulate, got --paradigm"),
        (["--preset", "paper-mnist", "--extractor", "clip"], "dinov2 or pixel, got --extractor"),
    ],
)
def test_as_released_is_refused_where_nothing_was_released(argv, message):
    with pytest.raises(ConfigError) as caught:
        parse_config([*argv, "--as-released"])
    assert message in str(caught.value)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"paper-ffhq"}))
def test_the_command_line_of_a_config_gives_it_again(preset):
    config = parse_config(["--preset", preset, "--extractor-weights", "clip=a.pt"])
    words = [word for line in command_line(config).splitlines() for word in line.split(" ", 1)]
    assert parse_config(words) == config


def test_a_model_option_replaces_the_presets_other_one():
    assert parse_config(["--unet", "32"]).widths is None
    assert parse_config(["--preset", "paper-mnist", "--widths", "8,16"]).unet is None


def test_the_default_folder_depends_on_what_decides_the_results_and_on_nothing_else():
    base = parse_config([]).out
    assert parse_config(["--threads", "1", "--quiet", "--checkpoint-every", "7"]).out == base
    assert parse_config(["--preset", "digits"]).out == base
    assert parse_config(["--seed", "1"]).out != base
    assert parse_config(["--data", "a b/öl.zip"]).out.startswith("runs/l-")
    assert parse_config(["--data", "owner/name:train"]).out.startswith("runs/name-train-")


def test_identity_is_json_and_leaves_out_how_a_run_is_carried_out():
    identity = parse_config(["--widths", "8,16"]).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["widths"] == [8, 16]
    carried_out = {"out", "threads", "checkpoint_every", "dry_run", "quiet"}
    assert carried_out.isdisjoint(identity)


def test_seeds_differ_by_purpose_position_and_run():
    seeds = {
        Config(seed=seed).derive_seed(purpose, *path)
        for seed in (0, 1)
        for purpose in ("training", "sampling")
        for path in [(), (0,), (1,), (0, 1), (1, 0)]
    }
    assert len(seeds) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert Config().derive_seed("training", 3, 5) == Config(n=9).derive_seed("training", 3, 5)


def test_extractors_are_those_that_exist():
    assert EXTRACTORS == embed.EXTRACTORS


def test_help_and_mistakes_do_not_wait_for_torch():
    code = "import sys, training.recursive; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_seeds_are_runs_in_folders_of_one():
    config = parse_config(["--seeds", "3,0"])
    assert config.out == f"{parse_config([]).out}-seeds"
    assert parse_config(["--seeds", "1"]).out == config.out
    runs = seed_runs(config)
    assert [(one.seed, one.seeds, one.out) for one in runs] == [
        (3, None, f"{config.out}/seed-3"),
        (0, None, f"{config.out}/seed-0"),
    ]
    assert seed_runs(parse_config([])) == []


def test_a_seed_is_not_run_twice():
    with pytest.raises(ConfigError, match="none of them twice"):
        parse_config(["--seeds", "1,1"])
