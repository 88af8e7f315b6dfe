"""The tables in results/: every number comes back, and nothing is lost when several write at once."""

import contextlib
import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from experiments import archive

IMAGES = ["a1", "b2", "c3"]


def rows_of(rng, *, digests=IMAGES):
    """Numbers of a trial's best and last weights."""
    return [
        {
            "weights": weights,
            "epochs": 7,
            "elbo": -float(rng.gamma(2.0)) * 1e-9,
            "elbo_standard_error": float(rng.random()),
            "bits_per_dimension": None,  # not measured
            "annealed": 1.5,
            # A thousand times 1.001 is a little less than 1001.
            "each": [1.001, *(1000 * rng.normal(size=len(digests) - 1)).round(3)],
            "digests": digests,
        }
        for weights in ("best", "last")
    ]


def bytes_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


class TestRecord:
    def test_numbers_come_back_to_the_last_bit(self, tmp_path, rng):
        recorded = {trial: rows_of(rng) for trial in ("vae-10", "vae-2", "dvae-2_5-0")}
        for trial, rows in recorded.items():
            archive.record(tmp_path, "toy", trial, {"noise": trial, "limit": None}, rows)
        found = archive.read(tmp_path, "toy")
        assert list(zip(found["cell"], found["seed"], found["weights"], strict=True)) == [
            (cell, seed, weights)
            for cell, seed in (("dvae-2_5", 0), ("vae", 2), ("vae", 10))
            for weights in ("best", "last")
        ]
        for _, row in found.iterrows():
            trial = f"{row['cell']}-{row['seed']}"
            (expected,) = (x for x in recorded[trial] if x["weights"] == row["weights"])
            for key in ("epochs", "elbo", "elbo_standard_error", "annealed"):
                assert row[key] == expected[key]
            assert np.isnan(row["bits_per_dimension"])
            assert np.array_equal(row["each"], expected["each"])
            assert list(row["each"].index) == IMAGES
            assert (row["noise"], row["limit"]) == (trial, None)

    def test_files_are_the_same_in_whatever_order_trials_end(self, tmp_path, rng):
        recorded = {f"{cell}-{seed}": rows_of(rng) for cell in "ab" for seed in range(2)}
        for name, trials in (("one", recorded), ("other", dict(reversed(recorded.items())))):
            for trial, rows in trials.items():
                archive.record(tmp_path / name, "toy", trial, {"noise": trial[0]}, rows)
        assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")
        archive.record(tmp_path / "one", "toy", "a-1", {"noise": "a"}, recorded["a-1"])  # again
        assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")

    def test_other_readers_can_use_the_files(self, tmp_path, rng):
        """Plain CSV, JSON and NumPy, as docs/reproducing.md says."""
        rows = rows_of(rng)
        archive.record(tmp_path, "toy", "vae-0", {"noise": "none", "limit": 5}, rows)
        archive.record(tmp_path, "toy", "dvae-0", {"noise": "masking", "limit": 5}, rows)
        lines = list(
            csv.DictReader((tmp_path / "toy.csv").read_text(encoding="utf-8").splitlines())
        )
        assert [line["elbo"] for line in lines] == [repr(row["elbo"]) for row in rows] * 2
        assert {line["bits_per_dimension"] for line in lines} == {""}
        assert json.loads((tmp_path / "toy.json").read_text(encoding="utf-8")) == {
            "shared": {"limit": 5},
            "cells": [
                {"cell": "dvae", "seeds": [0], "settings": {"noise": "masking"}},
                {"cell": "vae", "seeds": [0], "settings": {"noise": "none"}},
            ],
        }
        with np.load(tmp_path / "toy.npz") as arrays:
            assert arrays["digests"].tolist() == [IMAGES]  # once
            assert arrays["annealed"].dtype == np.int32
            assert np.array_equal(arrays["annealed"][:2] / 1000, [row["each"] for row in rows])

    def test_trials_may_have_other_images(self, tmp_path, rng):
        archive.record(tmp_path, "toy", "vae-0", {}, rows_of(rng))
        archive.record(tmp_path, "toy", "vae-1", {}, rows_of(rng, digests=["c3", "d4"]))
        archive.record(tmp_path, "toy", "vae-2", {}, [{"weights": "best", "elbo": 1.0}])
        found = archive.read(tmp_path, "toy").groupby("seed")["each"].first()
        assert [list(each.index) for each in found] == [IMAGES, ["c3", "d4"], []]
        assert not any(each.isna().any() for each in found)

    def test_a_trial_takes_the_place_of_itself(self, tmp_path, rng):
        for settings in ({"epochs": 1}, {"epochs": 2}):
            rows = rows_of(rng)[settings["epochs"] - 1 :]  # the second has no best weights
            archive.record(tmp_path, "toy", "vae-0", settings, rows)
        found = archive.read(tmp_path, "toy")
        assert list(found["weights"]) == ["last"]
        assert found["elbo"][0] == rows[0]["elbo"]
        assert archive.settings_of(tmp_path, "toy") == {"vae-0": {"epochs": 2}}

    def test_processes_that_end_at_once_lose_nothing(self, tmp_path):
        script = (
            "import sys; from pathlib import Path; from experiments import archive\n"
            "sys.stdin.readline()\n"  # all at once
            "for seed in range(20):\n"
            "    row = {'weights': 'best', 'elbo': seed / 7}\n"
            "    name = f'{sys.argv[2]}-{seed}'\n"
            "    archive.record(Path(sys.argv[1]), 'toy', name, {'noise': sys.argv[2]}, [row])\n"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(tmp_path), cell], cwd=ROOT, stdin=subprocess.PIPE
            )
            for cell in "abc"
        ]
        for process in processes:
            process.stdin.write(b"\n")
            process.stdin.close()
        assert [process.wait() for process in processes] == [0, 0, 0]
        found = archive.read(tmp_path, "toy")
        assert list(found["cell"]) == ["a"] * 20 + ["b"] * 20 + ["c"] * 20
        assert list(found["elbo"]) == [seed / 7 for seed in range(20)] * 3
        assert {path.name for path in tmp_path.iterdir()} == {"toy.csv", "toy.json"}

    @pytest.mark.parametrize("failing", ["npz", "csv", "json"])
    def test_a_trial_that_was_being_written_is_not_there(self, tmp_path, rng, monkeypatch, failing):
        """As after a kill: files are as before, or new; the trial counts once all of them are new."""
        archive.record(tmp_path, "toy", "vae-0", {}, rows_of(rng))
        before = archive.read(tmp_path, "toy")
        own = archive._replace

        def replace(path, content):
            if path.suffix == f".{failing}":
                raise KeyboardInterrupt
            own(path, content)

        rows = rows_of(rng)
        with monkeypatch.context() as patched:
            patched.setattr(archive, "_replace", replace)
            with pytest.raises(KeyboardInterrupt):
                archive.record(tmp_path, "toy", "vae-1", {}, rows)
        assert (
            archive.read(tmp_path, "toy").drop(columns="each").equals(before.drop(columns="each"))
        )
        assert list(archive.settings_of(tmp_path, "toy")) == ["vae-0"]
        archive.record(tmp_path, "toy", "vae-1", {}, rows)
        assert list(archive.read(tmp_path, "toy")["seed"]) == [0, 0, 1, 1]

    def test_a_reader_sees_a_file_as_it_was_or_as_it_is(self, tmp_path, rng):
        archive.record(tmp_path, "toy", "vae-0", {}, rows_of(rng))
        before = bytes_of(tmp_path)
        with contextlib.ExitStack() as stack:
            readers = {
                name: stack.enter_context((tmp_path / name).open("rb")) for name in sorted(before)
            }
            archive.record(tmp_path, "toy", "vae-1", {}, rows_of(rng))
            assert {name: reader.read() for name, reader in readers.items()} == before
        assert not any(bytes_of(tmp_path)[name] == content for name, content in before.items())

    def test_what_cannot_be_written_leaves_the_table_as_it_was(self, tmp_path, rng, monkeypatch):
        archive.record(tmp_path, "toy", "vae-0", {}, rows_of(rng))
        before = bytes_of(tmp_path)

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(archive.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            archive.record(tmp_path, "toy", "vae-1", {}, rows_of(rng))
        assert bytes_of(tmp_path) == before


class TestBounds:
    def test_models_keep_their_numbers(self, tmp_path):
        first = [{"sigma": 0.5, "num_corruptions": None, "quantity": "log_p", "mean": -1 / 3}]
        archive.record_bounds(tmp_path, {"linear": ({"size": 4}, first)})
        other = [{"num_corruptions": 2, "quantity": "mixture", "mean": -0.1, "standard_error": 0.2}]
        archive.record_bounds(tmp_path, {"mnist": ({"model": "--epochs 1"}, other)})
        found = archive.read_bounds(tmp_path)
        assert list(found["model"]) == ["linear", "mnist"]
        assert list(found["mean"]) == [-1 / 3, -0.1]
        assert np.isnan(found["standard_error"][0])
        about = json.loads((tmp_path / "bounds.json").read_text(encoding="utf-8"))
        assert about == {"linear": {"size": 4}, "mnist": {"model": "--epochs 1"}}
        archive.record_bounds(tmp_path, {"linear": ({"size": 5}, first * 2)})
        assert list(archive.read_bounds(tmp_path)["model"]) == ["linear", "linear", "mnist"]

    def test_none_are_none(self, tmp_path):
        assert archive.read_bounds(tmp_path).empty
        assert archive.read(tmp_path, "mnist").empty
        assert archive.settings_of(tmp_path / "none", "mnist") == {}
