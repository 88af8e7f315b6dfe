from typing import get_args

import pytest
from conftest import ROOT

from dvae_tf import corruptions, datasets, model, networks
from dvae_tf.runs import configuration
from dvae_tf.runs.configuration import Configuration, ConfigurationError


def test_choices_are_those_of_the_modules():
    assert get_args(configuration.Noise) == tuple(corruptions.CORRUPTIONS)
    assert get_args(configuration.Likelihood) == tuple(networks.LIKELIHOODS)
    assert get_args(configuration.Network) == tuple(networks.NETWORKS)
    assert get_args(configuration.Objective) == model.OBJECTIVES
    assert get_args(configuration.Posterior) == model.POSTERIORS
    assert get_args(configuration.Gradient) == model.GRADIENTS
    assert get_args(configuration.Binarize) == datasets.BINARIZATIONS
    assert get_args(configuration.SplitKind) == datasets.SPLITS
    assert get_args(configuration.Cache) == datasets.CACHES
    assert get_args(configuration.Preset) == tuple(configuration.PRESETS)


def test_run_directories_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert configuration.parse(["--run-dir=~/run"]).run_dir == "/home/somebody/run"
    assert configuration.parse(["--resume=~/run"]).resume == "/home/somebody/run"
    assert configuration.parse(["--run-dir=~no-one/run"]).run_dir == "~no-one/run"


def test_every_flag_of_the_command_line(capsys):
    line = (
        "--dataset mnist --data-dir d --split contiguous --binarize static --limit 5 --cache memory "
        "--noise gaussian --noise-level 0.1:0.3 --clip --objective iwae --posterior mixture "
        "--num-corruptions 2 --num-samples 3 --gradient reparameterized --kl-warmup 4 "
        "--likelihood gaussian --network conv --hidden 8 16 --activation relu --latent-dim 6 "
        "--epochs 7 --batch-size 8 --learning-rate 0.01 --schedule constant --patience 9 "
        "--validate-every 2 "
        "--max-gradient-norm 2.5 --precision mixed_bfloat16 "
        "--validation-input clean --seed 10 --run-dir r"
    )
    given = configuration.parse(line.split())
    assert given == Configuration(
        dataset="mnist",
        data_dir="d",
        split="contiguous",
        binarize="static",
        limit=5,
        cache="memory",
        noise="gaussian",
        noise_level=(0.1, 0.3),
        clip=True,
        objective="iwae",
        posterior="mixture",
        num_corruptions=2,
        num_samples=3,
        kl_warmup=4,
        likelihood="gaussian",
        network="conv",
        hidden=(8, 16),
        activation="relu",
        latent_dim=6,
        epochs=7,
        batch_size=8,
        learning_rate=0.01,
        schedule="constant",
        max_gradient_norm=2.5,
        precision="mixed_bfloat16",
        patience=9,
        validate_every=2,
        validation_input="clean",
        seed=10,
        run_dir="r",
    )
    assert configuration.parse(["--resume", "x"]).resume == "x"
    assert configuration.parse(["--help"]) is None
    text = capsys.readouterr().out
    for group in ("Data", "Noise", "Bound", "Network", "Training", "Run"):
        assert group in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "snow"], "--noise.*gaussian.*salt_pepper.*masking"),
        (["--noise-level", "much"], "a number L, or a range LO:HI, and not 'much'"),
        (["--noise-level", "0.1:"], "and not '0.1:'"),
        (["--noise-level", "1:2:3"], "a range LO:HI"),
        (["--num-samples", "0"], "--num-samples must be at least 1 .* Received: 0"),
        (["--num-corruptions", "-2"], "--num-corruptions must be at least 1"),
        (["--epochs", "1.5"], "'1.5' is not a whole number"),
        (["--epochs", "9" * 20], "--epochs must be at least 1 and less than"),
        (["--hidden", "1.5"], "'1.5' is not a whole number"),
        (["--resume", "x", "--epochs", "9"], "--resume must stand alone"),
        (["--epochs"], "requires an argument"),
        (["--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--max-gradient-norm", "0"], "--max-gradient-norm must be positive and finite"),
        (["--max-gradient-norm", "-1"], "--max-gradient-norm must be positive and finite"),
        (["--max-gradient-norm", "nan"], "--max-gradient-norm must be positive and finite"),
        (["--max-gradient-norm", "inf"], "--max-gradient-norm must be positive and finite"),
        (["--precision", "float16"], "--precision.*float32.*mixed_bfloat16.*mixed_float16"),
        (["--hidden", "0"], "--hidden must hold positive sizes"),
        (["--seed", "-1"], "--seed must be from 0"),
        (["--kl-warmup", "-1"], "--kl-warmup must not be negative"),
        (["--nose", "gaussian"], "Unknown option: --nose"),
        (["mnist"], "mnist"),
        (["--preset", "frey"], "frey-im2017"),
        (["--gradient", "doubly_reparameterized"], "must go with --objective iwae"),
        (
            [
                "--gradient",
                "doubly_reparameterized",
                "--objective",
                "iwae",
                "--posterior",
                "mixture",
            ],
            "must go with --objective iwae and --posterior conditional",
        ),
        (
            ["--gradient", "doubly_reparameterized", "--objective", "iwae", "--kl-warmup", "3"],
            "must go without --kl-warmup",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        configuration.parse(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", configuration.PRESETS)
def test_presets_give_way_to_flags(name):
    preset = configuration.PRESETS[name]
    plain = configuration.parse(["--preset", name])
    for key, value in preset.items():
        assert getattr(plain, key) == value
    changed = configuration.parse([f"--preset={name}", "--noise", "masking", "--hidden", "7"])
    assert (changed.noise, changed.hidden) == ("masking", (7,))
    assert changed.dataset == preset["dataset"]
    configuration.resolve(plain)


@pytest.mark.parametrize("dataset", ["digits", "mnist", "frey", "tfds:cifar10", "photos"])
@pytest.mark.parametrize("network", [None, *networks.NETWORKS])
def test_resolved_configurations_are_whole(dataset, network):
    resolved = configuration.resolve(Configuration(dataset=dataset, network=network))
    free = {"data_dir", "limit", "max_gradient_norm", "patience", "preset", "run_dir", "resume"}
    missing = {key for key, value in vars(resolved).items() if value is None}
    assert missing <= free
    assert configuration.resolve(resolved) == resolved
    assert configuration.from_dict(configuration.to_dict(resolved)) == resolved


def test_an_unresolved_configuration_is_no_run():
    with pytest.raises(ConfigurationError, match=r"must be whole.* Received: no .*epochs"):
        configuration.check_resolved(Configuration())
    configuration.check_resolved(configuration.resolve(Configuration()))


def test_defaults_fit_data_and_likelihood():
    resolve = configuration.resolve
    assert resolve(Configuration(dataset="mnist")).binarize == "dynamic"
    assert resolve(Configuration(dataset="mnist", likelihood="gaussian")).binarize == "none"
    assert resolve(Configuration(dataset="frey")).split == "contiguous"
    assert resolve(Configuration(noise="gaussian")).noise_level == 0.1
    assert resolve(Configuration(noise="none")).noise_level == 0.0
    assert resolve(Configuration(noise_level=0.0)).noise_level == 0.0


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": "3"},
        {"epochs": True},
        {"noise": "snow"},
        {"noise": 3},
        {"hidden": [1.5]},
        {"hidden": 200},
        {"noise_level": "0.1"},
        {"noise_level": [0.1, 0.2, 0.3]},
        {"clip": "yes"},
        {"dataset": None},
        {"learning_rate": "fast"},
        {"max_gradient_norm": True},
        {"precision": "bfloat16"},
        {"objective": None},
        {"colour": "red"},
    ],
)
def test_refuses_values_that_come_from_a_file(values):
    with pytest.raises(ConfigurationError, match="must"):
        configuration.from_dict(values)


def test_dependencies_of_the_package_are_in_requirements():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    assert set(project["dependencies"]) <= set(requirements)


def test_no_flags_at_all_are_the_embedded_default():
    assert configuration.parse([]) == configuration.Configuration()


def test_a_preset_may_be_the_last_word_or_lack_its_value():
    chosen = configuration.parse(["--preset", "mnist-vae"])
    assert (chosen.dataset, chosen.noise) == ("mnist", "none")
    with pytest.raises(configuration.ConfigurationError):
        configuration.parse(["--preset"])
