"""Make docs/results.md, the tables of docs/bounds.md and their figures from the numbers in results/.

    python -m experiments.pages

The numbers in results/ are all that it reads; it needs no run directory.
"""

import re
import sys
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")

from experiments import archive, bounds_tables, markdown, trials
from experiments.parser import Parser
from experiments.sections import denoising, frey, long, mnist, regularization

ROOT = Path(__file__).resolve().parents[1]


# The text and the figure of each experiment, in the order of the page.
SECTIONS = {
    "regularization": (regularization.section, regularization.draw),
    "mnist": (mnist.section, mnist.draw),
    "long": (long.section, None),
    "frey": (frey.section, frey.draw),
    "denoising": (denoising.section, denoising.draw),
}


# Every experiment's table has these columns; sections use others, too.
COLUMNS = {"num_training_images", "epochs", "num_test_images", "num_samples", "log_likelihood"}


def read(results: Path, experiment: str) -> pd.DataFrame:
    """Return the numbers of an experiment, in the form that the sections take.

    Raises:
        ValueError: if its table is damaged, or has trials that experiments/trials.py lacks.
    """
    cells = archive.read(results, experiment)
    declared = {trial.name for trial in trials.select([experiment])}
    for trial in archive.settings_of(results, experiment):
        if f"{experiment}/{trial}" not in declared:
            raise ValueError(
                "Results must be of trials that experiments/trials.py declares. "
                f"Received: {results / experiment}.csv, with {trial}. Declare it, or remove "
                f"{experiment}.* and run `make results` again."
            )
    if missing := not cells.empty and COLUMNS - set(cells):
        raise archive.DamagedError(
            f"Results must have the columns {', '.join(sorted(COLUMNS))}. Received: "
            f"{results / experiment}.csv, without {', '.join(sorted(missing))}. "
            f"Restore it, or remove {experiment}.* and run `make results` again."
        )
    return cells


def read_all(results: Path) -> dict[str, pd.DataFrame]:
    """Return the numbers of each experiment that has some, in the order of the page."""
    found = {name: read(results, name) for name in SECTIONS}
    return {name: cells for name, cells in found.items() if not cells.empty}


def render(found: dict[str, pd.DataFrame]) -> str:
    """Return the text of docs/results.md."""
    lines = [
        "# Results",
        "",
        "`make results` trains, measures and writes everything on this page. `make results-quick` makes a reduced "
        "version in minutes. `python -m experiments.pages` makes this page from the numbers in `results/`.",
        "",
        "How to read the tables and figures:",
        "",
        "- **±**, or a bar in a figure, is a standard error over seeds unless the text says otherwise.",
        "- **Differences** compare runs with equal seeds.",
        "- **Bold** differences are *significant* (5 % level): zero lies outside the 95 % interval of Student's t.",
        "- If no difference were real, one in twenty would still be bold, provided that its error is over seeds. Errors "
        "over seeds and images have estimated degrees of freedom. With these, one or two in twenty would be bold with "
        "three seeds or more, and up to three with two seeds.",
        "- If the cells of a row have different numbers of seeds, the last column has the smallest.",
        "",
    ]
    for name, cells in found.items():
        lines += SECTIONS[name][0](cells)
    return markdown.page(lines)


def with_tables(text: str, tables: dict[str, list[str]]) -> str:
    """Return a page with the tables between its marks, <!-- table NAME --> and <!-- end -->.

    A table without numbers becomes "Not measured.", so that no numbers of other results stay.
    """

    def filled(found: re.Match) -> str:
        lines = tables.get(found["name"], ["Not measured.", ""])
        return "\n".join([f"<!-- table {found['name']} -->", "", *lines, "<!-- end -->"])

    return re.sub(r"<!-- table (?P<name>.*?) -->.*?<!-- end -->", filled, text, flags=re.DOTALL)


def write(results: Path, docs: Path) -> None:
    """Write the page of results, the page of bounds if bounds were computed, and the figures.

    Raises:
        ValueError: if results are missing or damaged.
    """
    found = read_all(results)
    if not found:
        raise ValueError(
            "--results must be a directory with tables that experiments.run wrote. "
            f"Received: {results}, without any."
        )
    pages = {"results.md": render(found)}
    if tables := bounds_tables.tables(results):
        page = docs / "bounds.md"
        text = (page if page.exists() else ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
        pages["bounds.md"] = with_tables(text, tables)
    images = {
        f"results-{name}": draw(cells)
        for name, cells in found.items()
        if (draw := SECTIONS[name][1]) is not None
    }
    if (of_bounds := bounds_tables.draw(results)) is not None:
        images["bounds"] = of_bounds
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for name, figure in images.items():
        figure.savefig(docs / "images" / f"{name}.png", dpi=200)
    for name, text in pages.items():
        (docs / name).write_text(text, encoding="utf-8")
        print(f"Wrote {docs / name}")


def main(arguments: list[str] | None = None) -> int:
    """Write pages and figures; return 0, or 2 after a user's error."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="tables [default: those of the repository]")
    parser.add_argument(
        "--docs",
        type=Path,
        help="where the pages go [default: the repository's docs, for its own results]",
    )
    options = parser.parse_args(arguments)
    if options.results and not options.docs:
        parser.error(
            "--results needs --docs, because the repository's pages show its own results. "
            f"Received: --results {options.results} alone."
        )
    try:
        write(options.results or ROOT / "results", options.docs or ROOT / "docs")
    except ValueError as error:
        parser.error(" ".join(str(error).split()))
    except OSError as error:
        parser.error(
            "--results must be a readable directory, and --docs a writable one. "
            f"Received: {error}. Choose others."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
