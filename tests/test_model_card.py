"""The model card shows what names say, and nothing that they do."""

import html.parser

import markdown_it

from dvae_tf import DVAE, corruptions, networks
from dvae_tf.serving import model_card

NAME = "<script>alert(1)</script> [a](javascript:b) <http://c.d> `e` *f*\n# g \u202eh & \\"


class Page(html.parser.HTMLParser):
    """Collects the names of a page's tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_names_are_shown_and_do_nothing():
    encoder, decoder = networks.mlp((4, 4, 1), 2, "gaussian", hidden=(4,))
    model = DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.1))
    configuration = {
        **{"limit": None, "split": "random", "binarize": "none", "network": "mlp", "hidden": [4]},
        **{"activation": "tanh", "likelihood": "gaussian", "epochs": 1, "batch_size": 1, "seed": 0},
        **{"learning_rate": 0.1, "schedule": "constant", "noise": "gaussian", "noise_level": 0.1},
    }
    history = {name: [-1.0] for name in ("epoch", "val_bound", "val_reconstruction", "val_kl")}
    run = {
        "data": {"name": NAME, "num_train": 1, "num_validation": 1, "num_test": 1},
        "configuration": configuration,
        "history": history,
        "metrics": None,
        "versions": {"<b>tensorflow</b>": "<i>2</i>"},
    }
    page = Page(markdown_it.MarkdownIt("commonmark").render(model_card.render(model, run)))
    assert set(page.tags) == {"h1", "h2", "p", "ul", "li", "code"}
    assert page.tags.count("code") == 3  # what the card itself sets so: valid, and two files
    shown = NAME.replace("\n", r"\n").replace("\u202e", r"\u202e")
    assert page.text.count(shown) == 2  # in the title, and under "Data"
    assert "<b>tensorflow</b> <i>2</i>" in page.text
