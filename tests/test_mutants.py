"""The list of mutants stays true as the code changes. `python tests/mutants.py` tries them."""

import mutants
import pytest

_MUTANTS = mutants.read()


@pytest.mark.parametrize("mutant", _MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place(mutant):
    changed = mutant.apply(mutants.ROOT)  # raises if the text is not there exactly once

    assert changed != (mutants.ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.wrong


def test_names_are_unique_and_test_files_exist():
    names = [mutant.name for mutant in _MUTANTS]
    files = {file for mutant in _MUTANTS for file in mutant.likely_tests()}

    assert len(names) == len(set(names)) >= 150
    assert all(mutant.likely_tests() for mutant in _MUTANTS)
    assert [file for file in sorted(files) if not (mutants.ROOT / file).exists()] == []
