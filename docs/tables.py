"""Tables that the pages take from the registries; `python docs/tables.py` updates them in place.

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`. In README.md's table of flags
only the rows of `CHOICES` are replaced.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.observations import OBSERVATIONS

PAGES = (ROOT / "README.md", ROOT / "docs/noise.md", ROOT / "docs/data.md")
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _rows(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace(" |  |", " | |") + "\n"


def noises() -> str:
    """Return the table of corruptions, without the one that does nothing."""
    return _rows(
        ("`--noise`", "effect", "level", "default level"),
        (
            (f"`{name}`", corruption.effect, corruption.level_means, f"{corruption.default_level}")
            for name, corruption in CORRUPTIONS.items()
            if corruption.default_level
        ),
    )


def likelihoods() -> str:
    """Return the table of likelihoods."""
    return _rows(
        ("values", "`--likelihood`"),
        (
            (likelihood.values, ". ".join(filter(None, (f"`{name}`", likelihood.remark))))
            for name, likelihood in LIKELIHOODS.items()
        ),
    )


def observations() -> str:
    """Return the table of observations."""
    return _rows(
        ("`--observation`", "what the noise does"),
        ((f"`{entry.form()}`", entry.effect) for entry in OBSERVATIONS.values()),
    )


TABLES = {"noises": noises, "likelihoods": likelihoods, "observations": observations}
CHOICES = {"--noise": CORRUPTIONS, "--likelihood": LIKELIHOODS, "--network": NETWORKS}


def update(text: str) -> str:
    """Return the text of a page with its tables up to date."""
    text = _TABLE.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)
    for flag, registry in CHOICES.items():
        names = ", ".join(f"`{name}`" for name in registry)
        text = re.sub(
            rf"^\| `{flag}` \| [^|]*\|$", f"| `{flag}` | {names} |", text, flags=re.MULTILINE
        )
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")
