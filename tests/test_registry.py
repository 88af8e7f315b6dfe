"""A new entry of a registry is one new file."""

import importlib
import sys
import textwrap

import pytest

from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.kinds import KINDS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.priors import PRIORS
from dvae_tf.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a registry and one entry, in a place of its own."""
    folder = tmp_path / "cheeses"
    folder.mkdir()
    (folder / "__init__.py").write_text("from cheeses.cheese import CHEESES\n", encoding="utf-8")
    (folder / "cheese.py").write_text(
        'from dvae_tf.registry import Registry\nCHEESES = Registry("cheese", "cheeses")\n',
        encoding="utf-8",
    )
    (folder / "brie.py").write_text(
        textwrap.dedent(
            """
            from cheeses.cheese import CHEESES

            @CHEESES.register
            class Brie:
                name = "brie"
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "cheeses"]:
        del sys.modules[name]


def test_a_new_file_is_found(package):
    (package / "edam.py").write_text(
        "from cheeses.cheese import CHEESES\n\n@CHEESES.register('edam')\ndef make(): return 1\n",
        encoding="utf-8",
    )
    registry = importlib.import_module("cheeses").CHEESES
    assert list(registry) == ["brie", "edam"]
    assert registry["edam"]() == 1
    assert len(registry) == 2


def test_an_unknown_name_lists_the_known_ones(package):
    registry = importlib.import_module("cheeses").CHEESES
    with pytest.raises(ValueError, match=r"`cheese` must be one of brie\. Received: 'gouda'"):
        registry.choose("gouda")
    for name in (None, 1, ["brie"]):
        with pytest.raises(ValueError, match="must be one of brie"):
            registry.choose(name)


def test_a_name_stands_for_one_thing(package):
    registry = importlib.import_module("cheeses").CHEESES

    class Other:
        name = "brie"

    assert "brie" in registry
    with pytest.raises(ValueError, match="a name of its own"):
        registry.register(Other)


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        (
            CORRUPTIONS,
            "authors_salt_pepper block gaussian masking none poisson salt_pepper speckle",
        ),
        (LIKELIHOODS, "bernoulli continuous_bernoulli discretized_logistic gaussian"),
        (NETWORKS, "conv mlp resnet"),
        (PRIORS, "standard_normal"),
        (KINDS, "image"),
    ],
)
def test_what_there_is(registry: Registry, expected):
    # Other tests may have registered entries of their own.
    assert set(expected.split()) <= set(registry)
