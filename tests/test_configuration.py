"""Options, the command line that asks for them, and the configuration that they become."""

import ast
import dataclasses
import re
import sys

import keras
import pytest
from conftest import ROOT

from dvae_tf import commands, corruptions, datasets, kinds, likelihoods, networks, observations
from dvae_tf.runs import command_line, configuration, defaults
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.options import Options
from dvae_tf.runs.presets import PRESETS

REGISTRIES = {
    "noise": corruptions.CORRUPTIONS,
    "likelihood": likelihoods.LIKELIHOODS,
    "network": networks.NETWORKS,
    "kind": kinds.KINDS,
}


def help_text(capsys) -> str:
    """Return --help in one line, without the frames around its columns."""
    assert command_line.parse(["--help"]) is None
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("option", REGISTRIES)
def test_every_entry_of_a_registry_is_accepted_and_shown(option, capsys):
    registry = REGISTRIES[option]
    for name in registry:
        given = command_line.parse([f"--{option}", name])
        assert getattr(given, option) == name
    assert f"[choices: {', '.join(registry)}]" in help_text(capsys)


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_help_says_what_each_level_means(name, capsys):
    assert corruptions.CORRUPTIONS[name].level_means in help_text(capsys)


@pytest.mark.parametrize("name", observations.OBSERVATIONS)
def test_help_says_how_observations_are_written(name, capsys):
    assert observations.OBSERVATIONS[name].form() in help_text(capsys)
    assert command_line.parse(["--observation", "auto"]).observation == "auto"


def test_a_new_noise_is_known_without_another_edit(monkeypatch, capsys):
    class Snow(corruptions.Corruption):
        name = "snow"
        level_means = "flakes per pixel"
        default_level = 0.4

    corruptions.CORRUPTIONS["none"]  # has looked for modules
    monkeypatch.setitem(corruptions.CORRUPTIONS._entries, "snow", Snow)
    given = command_line.parse(["--noise", "snow"])
    assert defaults.resolve(given).noise_level == 0.4
    assert "snow: flakes per pixel" in help_text(capsys)


def test_a_new_kind_brings_its_own_defaults(monkeypatch):
    @keras.saving.register_keras_serializable(package="test_configuration")
    class Vectors(kinds.Kind):
        name = "vectors"

        @classmethod
        def reads(cls, name):
            return name == "points"

    kinds.KINDS["image"]  # has looked for modules
    monkeypatch.setitem(kinds.KINDS._entries, "vectors", Vectors)
    config = defaults.resolve(command_line.parse(["--dataset", "points", "--epochs", "3"]))
    assert (config.kind, config.epochs) == ("vectors", 3)
    for name in ("noise", "likelihood", "network", "latent_dim", "batch_size"):
        assert getattr(config, name) == kinds.Kind.defaults[name]
    assert defaults.resolve(Options(dataset="digits", kind="vectors")).kind == "vectors"


def test_only_what_a_run_can_do_without_is_none():
    hints = {field.name: field.default for field in dataclasses.fields(Configuration)}
    free = {
        "clean",
        "data_dir",
        "init_from",
        "limit",
        "max_gradient_norm",
        "observation",
        "patch",
        "patience",
        "preset",
        "range",
        "run_dir",
        "resume",
    }
    assert {name for name, default in hints.items() if default is None} == free


def test_messages_speak_of_flags_on_the_command_line():
    def said(message):
        return commands.in_flags(message, command_line.FLAGS)

    assert said("`num_samples` must be 1") == "--num-samples must be 1"
    assert said("`level` must be 1") == "--noise-level must be 1"
    assert said("Choose cache='none'.") == "Choose --cache none."
    assert said("Go on with `resume='a run'`.") == "Go on with --resume 'a run'."
    assert said("`rank` and seed=3 stay") == "`rank` and seed=3 stay"


def test_run_directories_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert command_line.parse(["--run-dir=~/run"]).run_dir == "/home/somebody/run"
    assert command_line.parse(["--resume=~/run"]).resume == "/home/somebody/run"
    assert command_line.parse(["--run-dir=~no-one/run"]).run_dir == "~no-one/run"


def test_every_flag_of_the_command_line(capsys):
    line = (
        "--dataset mnist --kind image --data-dir d --split contiguous --binarize static --limit 5 "
        "--cache memory --clean c --patch 64 --augment --range 0,4095 --noise gaussian "
        "--noise-level 0.1:0.3 --clip --observation gaussian:0.1 --objective iwae "
        "--posterior mixture --num-corruptions 2 --num-samples 3 --gradient reparameterized "
        "--kl-warmup 4 --likelihood gaussian --network conv --hidden 8 16 --activation relu "
        "--latent-dim 6 --epochs 7 --batch-size 8 --learning-rate 0.01 --schedule constant "
        "--patience 9 --validate-every 2 --max-gradient-norm 2.5 --precision mixed_bfloat16 "
        "--validation-input clean --seed 10 --run-dir r"
    )
    given = command_line.parse(line.split())
    assert given == Options(
        dataset="mnist",
        kind="image",
        data_dir="d",
        split="contiguous",
        binarize="static",
        limit=5,
        cache="memory",
        clean="c",
        patch=64,
        augment=True,
        range="0,4095",
        noise="gaussian",
        noise_level=(0.1, 0.3),
        clip=True,
        observation="gaussian:0.1",
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
    assert command_line.parse(["--resume", "x"]).resume == "x"
    assert command_line.parse(["--help"]) is None
    text = capsys.readouterr().out
    for group in ("Data", "Noise", "Bound", "Network", "Training", "Run"):
        assert group in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "snow"], "--noise.*authors_salt_pepper.*gaussian"),
        (["--noise-level", "much"], "a number L, or a range LO:HI, and not 'much'"),
        (["--noise-level", "0.1:"], "and not '0.1:'"),
        (["--noise-level", "1:2:3"], "a range LO:HI"),
        (["--num-samples", "0"], "--num-samples must be greater than or equal to 1. Received: 0"),
        (
            ["--num-corruptions", "-2"],
            "--num-corruptions must be greater than or equal to 1. Received: -2",
        ),
        (["--epochs", "1.5"], "'1.5' is not a whole number"),
        (["--epochs", "9" * 20], "--epochs must be less than .* Received: 999"),
        (["--hidden", "1.5"], "'1.5' is not a whole number"),
        (["--resume", "x", "--epochs", "9"], "--resume must stand alone"),
        (["--epochs"], "requires an argument"),
        (["--learning-rate", "nan"], "--learning-rate must be a finite number. Received: nan"),
        (["--max-gradient-norm", "0"], "--max-gradient-norm must be greater than 0. Received: 0.0"),
        (["--max-gradient-norm", "-1"], "--max-gradient-norm must be greater than 0"),
        (["--max-gradient-norm", "nan"], "--max-gradient-norm must be a finite number"),
        (["--max-gradient-norm", "inf"], "--max-gradient-norm must be a finite number"),
        (["--precision", "float16"], "--precision.*float32.*mixed_bfloat16.*mixed_float16"),
        (["--hidden", "0"], "--hidden must be greater than or equal to 1"),
        (["--seed", "-1"], "--seed must be greater than or equal to 0. Received: -1"),
        (["--kl-warmup", "-1"], "--kl-warmup must be greater than or equal to 0"),
        (["--nose", "gaussian"], "Unknown option: --nose"),
        (["--patch", "0"], "--patch must be greater than or equal to 1. Received: 0"),
        (["--patch", "6.5"], "'6.5' is not a whole number"),
        (["--observation", "gaussian:0"], "Received"),
        (["--observation", "snow"], "--observation must be one of gaussian:.*'snow'"),
        (["--augment"], "--augment must go with --patch: .* Set --patch"),
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
    with pytest.raises(ConfigurationError) as caught:
        command_line.parse(arguments)
    shown = commands.in_flags(str(caught.value), command_line.FLAGS)
    assert re.search(message, shown)
    assert "\n" not in shown


# What a run resolves to without a flag.
DEFAULTS = {
    "dataset": "digits",
    "kind": "image",
    "data_dir": None,
    "split": "random",
    "binarize": "none",
    "limit": None,
    "cache": "auto",
    "clean": None,
    "patch": None,
    "augment": False,
    "range": None,
    "noise": "salt_pepper",
    "noise_level": 0.2,
    "clip": False,
    "observation": None,
    "objective": "elbo",
    "posterior": "conditional",
    "num_corruptions": 1,
    "num_samples": 1,
    "gradient": "reparameterized",
    "kl_warmup": 0,
    "likelihood": "discretized_logistic",
    "network": "mlp",
    "hidden": (200, 200),
    "activation": "swish",
    "latent_dim": 16,
    "conditional": False,
    "epochs": 300,
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "max_gradient_norm": None,
    "precision": "float32",
    "patience": None,
    "validate_every": 1,
    "validation_input": "corrupted",
    "seed": 0,
    "strategy": "auto",
    "checkpoint_seconds": 30.0,
    "preset": None,
    "init_from": None,
    "run_dir": None,
    "resume": None,
}
MNIST = {
    "dataset": "mnist",
    "noise_level": 0.1,
    "binarize": "dynamic",
    "likelihood": "bernoulli",
    "latent_dim": 50,
    "epochs": 100,
    "batch_size": 100,
    "learning_rate": 1e-3,
}
IM2017 = {
    "noise_level": 0.05,
    "num_corruptions": 5,
    "hidden": (200, 200),
    "activation": "softplus",
    "latent_dim": 50,
}
# What a run of each preset resolves to, where it differs from `DEFAULTS`.
OF_PRESETS = {
    "mnist-im2017": MNIST | IM2017 | {"noise": "authors_salt_pepper", "binarize": "static"},
    "frey-im2017": IM2017
    | {
        "dataset": "frey",
        "noise": "gaussian",
        "split": "random",
        "likelihood": "gaussian",
        "epochs": 400,
        "batch_size": 100,
        "learning_rate": 1e-3,
    },
    "mnist-vae": MNIST | {"noise": "none", "noise_level": 0.0},
    "mnist-diwae": MNIST
    | {
        "noise_level": 0.05,
        "objective": "iwae",
        "num_samples": 5,
        "gradient": "doubly_reparameterized",
    },
}


def test_no_flags_at_all_are_the_embedded_default():
    assert dataclasses.asdict(defaults.resolve(command_line.parse([]))) == DEFAULTS


def test_every_preset_is_written_out():
    assert OF_PRESETS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", OF_PRESETS)
def test_presets_give_way_to_flags(name):
    expected = DEFAULTS | OF_PRESETS[name] | {"preset": name}
    plain = defaults.resolve(command_line.parse(["--preset", name]))
    assert dataclasses.asdict(plain) == expected
    flags = {"noise": "masking", "noise_level": 0.7, "hidden": (7,), "num_corruptions": 2}
    words = [
        "--noise",
        "masking",
        "--noise-level",
        "0.7",
        "--hidden",
        "7",
        "--num-corruptions",
        "2",
    ]
    changed = defaults.resolve(command_line.parse([f"--preset={name}", *words]))
    assert dataclasses.asdict(changed) == expected | flags


@pytest.mark.parametrize("dataset", ["digits", "mnist", "frey", "tfds:cifar10", "tests"])
@pytest.mark.parametrize("network", [None, *networks.NETWORKS])
def test_resolved_configurations_are_complete(dataset, network, monkeypatch):
    monkeypatch.chdir(ROOT)  # where a directory `tests` is
    resolved = defaults.resolve(Options(dataset=dataset, network=network))
    assert defaults.resolve(resolved) == resolved
    assert configuration.from_dict(configuration.to_dict(resolved)) == resolved


def test_a_data_set_that_no_kind_reads_is_refused():
    with pytest.raises(datasets.DatasetError, match=r"`dataset` must be digits.*'celeba'"):
        defaults.resolve(Options(dataset="celeba"))


def test_an_incomplete_configuration_is_no_run():
    values = configuration.to_dict(defaults.resolve(Options()))
    del values["epochs"], values["noise"]
    with pytest.raises(ConfigurationError, match=r"must be complete.* Received: no noise, epochs"):
        configuration.from_dict(values)


def test_configurations_of_version_0_1_are_of_images():
    values = configuration.to_dict(defaults.resolve(Options()))
    del values["kind"]
    assert configuration.from_dict(values).kind == "image"


def test_defaults_fit_data_and_likelihood():
    resolve = defaults.resolve
    assert resolve(Options(dataset="mnist")).binarize == "dynamic"
    assert resolve(Options(dataset="mnist", likelihood="gaussian")).binarize == "none"
    assert resolve(Options(dataset="frey")).split == "contiguous"
    assert resolve(Options(noise="gaussian")).noise_level == 0.1
    assert resolve(Options(noise="none")).noise_level == 0.0
    assert resolve(Options(noise_level=0.0)).noise_level == 0.0
    for noisy in ({"clean": "c"}, {"observation": "gaussian:0.1"}):
        assert resolve(Options(dataset="frey", **noisy)).noise == "none"
        assert resolve(Options(dataset="frey", noise="speckle", **noisy)).noise == "speckle"


# The options whose defaults depend on others.
DEPENDENT_OPTIONS = (
    *("split", "binarize", "noise", "noise_level", "likelihood", "network", "hidden"),
    *("activation", "latent_dim", "epochs", "batch_size", "learning_rate"),
    *("conditional", "kl_warmup", "optimizer"),
)
OF_OTHERS = {"noise_level": 0.1, "epochs": 100, "batch_size": 100, "learning_rate": 0.001}
OF_CONV = {"network": "conv", "hidden": (32, 64), "activation": "relu"}
OF_LADDER = {
    "network": "ladder",
    "hidden": (32, 32, 32),
    "latent_dim": 6,
    "conditional": True,
    "kl_warmup": 20,
    "epochs": 80,
    "batch_size": 16,
    "optimizer": "adamax",
    "learning_rate": 0.002,
}
OF_NOISY = OF_LADDER | {"noise": "none", "noise_level": 0.0}
# What is asked for, and what it resolves to, where that differs from `DEFAULTS`.
DEPENDENT = {
    "": {},
    "--dataset mnist": OF_OTHERS
    | {"likelihood": "bernoulli", "binarize": "dynamic", "latent_dim": 50},
    "--dataset frey": OF_OTHERS
    | {"noise": "gaussian", "likelihood": "gaussian", "latent_dim": 20}
    | {"epochs": 400, "split": "contiguous"},
    "--dataset tfds:other": OF_OTHERS
    | {"noise": "gaussian", "likelihood": "gaussian", "latent_dim": 64, **OF_CONV},
    "--dataset mnist --noise masking --hidden 7": OF_OTHERS
    | {"likelihood": "bernoulli", "binarize": "dynamic", "latent_dim": 50}
    | {"noise": "masking", "noise_level": 0.25, "hidden": (7,)},
    "--network mlp": {},
    "--network conv": OF_CONV,
    "--network ladder": OF_LADDER,
    "--network ladder --no-conditional --epochs 8": OF_LADDER
    | {"conditional": False, "epochs": 8, "kl_warmup": 2},
    "--network ladder --kl-warmup 0 --optimizer adam": OF_LADDER
    | {"kl_warmup": 0, "optimizer": "adam"},
    "--patch 4": OF_LADDER,
    "--clean folder": OF_NOISY,
    "--observation gaussian:0.1": OF_NOISY | {"conditional": False},
    "--patch 4 --network conv": OF_CONV,
    "--network resnet": {"network": "resnet", "hidden": (32, 64)},
    "--likelihood bernoulli": {"likelihood": "bernoulli", "binarize": "dynamic"},
    "--likelihood continuous_bernoulli": {"likelihood": "continuous_bernoulli"},
    "--likelihood discretized_logistic": {},
    "--likelihood gaussian": {"likelihood": "gaussian"},
    "--noise authors_salt_pepper": {"noise": "authors_salt_pepper", "noise_level": 0.1},
    "--noise block": {"noise": "block", "noise_level": 0.1},
    "--noise gaussian": {"noise": "gaussian", "noise_level": 0.1},
    "--noise masking": {"noise": "masking", "noise_level": 0.25},
    "--noise none": {"noise": "none", "noise_level": 0.0},
    "--noise poisson": {"noise": "poisson", "noise_level": 0.1},
    "--noise salt_pepper": {},
    "--noise speckle": {"noise": "speckle", "noise_level": 0.1},
}


@pytest.mark.parametrize("words", DEPENDENT)
def test_defaults_that_depend_on_other_options(words):
    config = defaults.resolve(command_line.parse(words.split()))
    expected = DEFAULTS | DEPENDENT[words]
    for name in DEPENDENT_OPTIONS:
        assert getattr(config, name) == expected[name], name


@pytest.mark.parametrize("option", ["noise", "likelihood", "network"])
def test_every_entry_has_its_defaults_written_down(option):
    assert {f"--{option} {name}" for name in REGISTRIES[option]} <= DEPENDENT.keys()


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
        {"patch": "64"},
        {"augment": 1},
        {"range": [0, 1]},
        {"objective": None},
        {"colour": "red"},
    ],
)
def test_refuses_values_that_come_from_a_file(values):
    complete = configuration.to_dict(defaults.resolve(Options()))
    with pytest.raises(ConfigurationError, match=r"must .*Received: ") as caught:
        configuration.from_dict(complete | values)
    assert "\n" not in str(caught.value)


def test_dependencies_of_the_package_are_in_requirements():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert set(project["dependencies"]) <= set(requirements)


def test_every_imported_package_is_declared():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["serving"]]
    names = {re.match(r"[\w-]+", each)[0].lower().replace("_", "-") for each in declared}
    imported = set()
    for path in (ROOT / "dvae_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    imported -= {"dvae_tf", *sys.stdlib_module_names}
    others = {
        "PIL": "pillow",
        "pywt": "pywavelets",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "tensorflow_serving": "tensorflow-serving-api",
    }
    assert others.keys() <= imported
    assert {others.get(module, module.replace("_", "-")) for module in imported} <= names


def test_a_preset_may_be_the_last_word_or_lack_its_value():
    chosen = command_line.parse(["--preset", "mnist-vae"])
    assert (chosen.dataset, chosen.noise) == ("mnist", "none")
    with pytest.raises(ConfigurationError):
        command_line.parse(["--preset"])
