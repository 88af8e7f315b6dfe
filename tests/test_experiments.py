"""The experiments' declarations, runner and tables; and that pages hold the committed numbers."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import ROOT

from benchmarks import pages as speed
from dvae_tf import datasets, likelihood
from dvae_tf.data import holding_out
from dvae_tf.runs import command_line, defaults, training
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options
from experiments import archive, bounds, bounds_tables, pages, run, statistics, trials
from experiments.linear_gaussian import LinearGaussian
from experiments.sections import denoising, frey, long, mnist, regularization
from experiments.statistics import of_cell

ALL = trials.select()
TINY = trials.Cell(
    experiment="tiny",
    name="dae-20",
    flags={
        "epochs": 2,
        "limit": 100,
        "hidden": (8,),
        "latent_dim": 2,
        "noise_level": 0.2,
        "checkpoint_seconds": 0.0,
    },
    measure=trials.Measure(num_importance_samples=20, limit=30, last=True, test_levels=(0.0, 0.2)),
    num_seeds=2,
)


class TestDeclarations:
    def test_names_are_unique(self):
        assert len({each.name for each in ALL}) == len(ALL)

    @pytest.mark.parametrize("quick", [False, True])
    def test_flags_are_valid_and_the_command_says_them_all(self, quick):
        for each in (each for each in trials.select(quick=quick) if each.seed == 0):
            meant = Options(**each.flags)
            defaults.resolve(meant)
            assert (each.command is None) == (not each.cell.with_kl)
            if each.command is not None:
                assert command_line.parse(each.command.split()[2:]) == meant

    def test_first_seeds_come_first(self):
        seeds = [each.seed for each in ALL]
        assert seeds == sorted(seeds)

    def test_cells_with_equal_budgets(self):
        """Within a table only what it is about differs."""
        for name in ("mnist", "frey", "denoising"):
            budgets = {
                (r := defaults.resolve(Options(**each.flags))).epochs
                and (r.epochs, r.hidden, r.latent_dim, r.batch_size, r.learning_rate, r.schedule)
                for each in trials.select([name])
            }
            assert len(budgets) == 1

    def test_unknown_experiment_is_refused(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            run.main(["celeba"])
        assert stopped.value.code == 2
        assert "must be one of" in capsys.readouterr().err

    def test_quick_cells_are_declared(self, capsys):
        declared = {(each.cell.experiment, each.cell.name) for each in ALL}
        quick = {(name, cell) for name, cells in trials._QUICK_CELLS.items() for cell in cells}
        assert quick <= declared
        with pytest.raises(SystemExit) as stopped:
            run.main(["long", "--quick"])
        assert stopped.value.code == 2
        assert "without --quick" in capsys.readouterr().err

    @pytest.mark.parametrize("flag", ["--runs", "--results"])
    def test_unusable_places_are_said_before_training(self, tmp_path, capsys, flag):
        (tmp_path / "file").write_text("", encoding="utf-8")
        words = ["frey", "--quick", "--runs", str(tmp_path), "--results", str(tmp_path)]
        with pytest.raises(SystemExit) as stopped:
            run.main([*words, flag, str(tmp_path / "file")])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "must be directories that can be written to" in line

    def test_missing_data_are_said_in_one_line(self, tmp_path, capsys):
        words = ["frey", "--runs", str(tmp_path), "--results", str(tmp_path)]
        with pytest.raises(SystemExit) as stopped:
            run.main([*words, "--data-dir", str(tmp_path / "none")])
        assert stopped.value.code == 2
        assert "frey_rawface.mat" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiments")
    for seed in range(2):
        each = trials.Trial(TINY, seed)
        run.train_and_measure(each, path / "runs" / each.name, path / "results", None)
    return path


@pytest.mark.slow
class TestRunner:
    @staticmethod
    def numbers(path, of):
        """The numbers of the trial with seed 0, of its best or last weights."""
        rows = archive.read(path / "results", "tiny").query("seed == 0").set_index("weights")
        return rows.loc[of]

    def test_is_done_only_as_it_is_declared(self, done):
        results = done / "results"
        assert run.is_done(trials.Trial(TINY, 0), results)
        assert not run.is_done(trials.Trial(TINY, 2), results)
        other = dataclasses.replace(TINY, flags=TINY.flags | {"epochs": 3})
        assert not run.is_done(trials.Trial(other, 0), results)
        reordered = dataclasses.replace(TINY, flags=dict(reversed(TINY.flags.items())))
        assert run.is_done(trials.Trial(reordered, 0), results)

    def test_numbers_are_those_of_the_run(self, done):
        numbers = self.numbers(done, "best")
        run_dir = done / "runs" / "tiny" / "dae-20-0"
        history = RunDirectory(run_dir).read_history()
        assert numbers["epochs"] == 2
        assert numbers["best_epoch"] == 1 + np.argmax(history["val_bound"])
        model = RunDirectory(run_dir).load_model()
        images = datasets.as_float(datasets.load("digits").test.images[:30])
        expected = likelihood.importance_sampling(
            model.encoder, model.decoder, images, num_samples=20, seed=0
        )
        assert numbers["log_likelihood"] == pytest.approx(expected.mean, rel=1e-6)
        assert numbers["num_samples"] == 20
        assert numbers["num_test_images"] == 30

    def test_last_weights_are_not_the_best(self, tmp_path):
        """Few images, known by heart: after many epochs they alone are likely."""
        flags = {"epochs": 60, "limit": 10, "noise": "none", "noise_level": 0.0}
        flags |= {"validate_every": 5, "hidden": (64,), "learning_rate": 0.01, "batch_size": 5}
        how = dataclasses.replace(TINY.measure, test_levels=(), num_annealed=30)
        cell = dataclasses.replace(TINY, flags=TINY.flags | flags, measure=how)
        each = trials.Trial(cell, 0)
        run.train_and_measure(each, tmp_path / "run", tmp_path / "results", None)
        best, last = (self.numbers(tmp_path, of) for of in ("best", "last"))
        assert last["best_epoch"] < 60
        assert best["log_likelihood"] > last["log_likelihood"] + 3
        # On the same 30 images; annealing does not depend on the encoder, which is much to blame.
        assert last["annealed"] > last["log_likelihood"] + 3
        assert last["each"].mean() == pytest.approx(last["annealed"], abs=1e-3)
        assert last["each"].index.is_unique
        assert last["num_annealed"] == len(last["each"]) == 30

    def test_denoising_rows(self, done):
        last = self.numbers(done, "last")
        assert last["measure.test_levels"] == [0.0, 0.2]
        assert last["noisy_psnr_at_0"] == pytest.approx(58.9, abs=0.05)  # untouched
        assert last["noisy_psnr_at_0.2"] < 15

    def test_says_nothing_of_this_machine(self, done):
        written = list((done / "results").glob("*"))
        assert {path.name for path in written} == {"tiny.csv", "tiny.json"}
        assert all(str(done) not in path.read_text(encoding="utf-8") for path in written)

    # The history that a KeyboardInterrupt leaves open, as the end of a process would not.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_an_interrupted_run_goes_on(self, tmp_path, done, monkeypatch):
        each = trials.Trial(TINY, 0)
        own = training._callbacks

        class Stop(training.keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    raise KeyboardInterrupt

        directory = tmp_path / "runs" / each.name
        with monkeypatch.context() as patched:
            patched.setattr(training, "_callbacks", lambda *v: [*own(*v), Stop()])
            with pytest.raises(KeyboardInterrupt):
                run.train_and_measure(each, directory, tmp_path / "results", None)
        trained: list[int] = []

        class Count(training.keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                trained.append(epoch)

        with monkeypatch.context() as patched:
            patched.setattr(training, "_callbacks", lambda *v: [*own(*v), Count()])
            run.train_and_measure(each, directory, tmp_path / "results", None)
        assert trained == [1]
        for of in ("best", "last"):
            assert self.numbers(tmp_path, of).equals(self.numbers(done, of))

    def test_without_kl_only_the_last_weights_count(self, tmp_path):
        flags = {
            "epochs": 12,
            "limit": 400,
            "latent_dim": 8,
            "hidden": (32,),
            "learning_rate": 0.01,
        }
        cell = dataclasses.replace(TINY, with_kl=False, flags=TINY.flags | flags)
        each = trials.Trial(cell, 0)
        run.train_and_measure(each, tmp_path / "run", tmp_path / "results", None)
        without = archive.read(tmp_path / "results", "tiny")
        assert list(without["weights"]) == ["last"]
        # Nothing holds the posterior near the prior.
        with_kl = trials.Trial(dataclasses.replace(cell, with_kl=True), 0)
        run.train_and_measure(with_kl, tmp_path / "other", tmp_path / "results", None)
        assert without["kl"][0] > 2 * self.numbers(tmp_path, "last")["kl"]

    def test_runs_what_is_not_done_and_says_what_failed(self, tmp_path, tfds_dir, capfd):
        """In processes of their own: two runs are left to do, one of them of a damaged directory."""
        *others, damaged, left = trials.select(["denoising"], quick=True)
        for each in others:
            settings = run.declaration(each)
            archive.record(
                tmp_path / "results", "denoising", each.label, settings, [{"weights": "last"}]
            )
        (tmp_path / "runs" / damaged.name).mkdir(parents=True)
        (tmp_path / "runs" / damaged.name / "config.json").write_text("{", encoding="utf-8")
        words = ["denoising", "--quick", "--data-dir", str(tfds_dir)]
        words += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
        assert run.main(words) == 1
        said = capfd.readouterr().out
        assert f"{len(others) + 2} runs, 2 to do" in said
        assert f"{left.name}: done" in said
        assert f"{damaged.name}: failed, see {tmp_path}" in said
        assert run.is_done(left, tmp_path / "results")
        assert not run.is_done(damaged, tmp_path / "results")

    def test_a_list_may_be_cut_off(self):
        command = f"'{sys.executable}' -m experiments.run --list | head -1"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0
        assert "Traceback" not in done.stderr

    def test_shares_of_the_cores(self, monkeypatch):
        monkeypatch.setattr(run.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
        assert run.shares(2) == [[0, 1], [2, 3]]
        assert run.shares(4) == [[0], [1], [2], [3]]
        assert run.shares(5) == [[0], [1], [2], [3], [0]]


class TestTables:
    def test_mean_and_standard_error(self, rng):
        values = rng.normal(size=5)
        found = statistics.mean(values)
        assert found.value == pytest.approx(values.mean())
        assert found.error == pytest.approx(scipy.stats.sem(values))

    def test_difference_is_of_the_seeds_that_both_have(self):
        rows, others = (
            pd.DataFrame({"seed": seeds, "weights": "best", "x": values})
            for seeds, values in (([0, 1, 2], [1.0, 2.0, 4.0]), ([0, 2], [0.0, 3.0]))
        )
        found = statistics.difference(rows, others, "x")
        assert (found.value, found.error, found.num_seeds) == (1.0, 0.0, 2)
        assert statistics.difference(rows, others[:0], "x").num_seeds == 0

    def test_bold_is_beyond_the_interval_of_student(self):
        """The 97.5 % quantile of t is 4.303 with two degrees of freedom."""
        assert statistics.marked(statistics.Mean(1.0, 0.232, 3, 2)) == "**+1.00 ± 0.23**"
        assert statistics.marked(statistics.Mean(-1.0, 0.233, 3, 2)) == "-1.00 ± 0.23"
        assert statistics.marked(statistics.Mean(1.0, math.nan, 1, 0)) == "+1.00"

    def test_verdict_counts_what_is_significant(self):
        values = [statistics.Mean(v, 0.1, 3, 2) for v in (1.0, -1.0, -2.0, 0.2, 0.0)]
        assert statistics.verdict(values) == (
            "significantly better in 1 cells, significantly worse in 2, and neither in 2 of 5"
        )

    def test_error_of_annealed_differences_is_of_seeds_and_images(self, rng):
        effects = rng.normal(size=(3, 1)) + rng.normal(size=(1, 40))
        base = rng.normal(size=(3, 40))

        def rows(values):
            return annealed(*(pd.Series(each) for each in values))

        found = statistics.difference_annealed(rows(base + effects + 2.0), rows(base))
        assert found.value == pytest.approx(2.0 + effects.mean())
        of_seeds, of_images = effects.mean(axis=1), effects.mean(axis=0)
        expected = np.hypot(scipy.stats.sem(of_seeds), scipy.stats.sem(of_images))
        assert found.error == pytest.approx(expected)
        assert found.num_seeds == 3
        welch = scipy.stats.ttest_ind(of_seeds, of_images, equal_var=False)
        assert found.freedom == pytest.approx(welch.df)
        of_blocks = of_images.reshape(4, 10).mean(axis=1)
        clustered = statistics.difference_annealed(rows(base + effects), rows(base), num_blocks=4)
        expected = np.hypot(scipy.stats.sem(of_seeds), scipy.stats.sem(of_blocks))
        assert clustered.error == pytest.approx(expected)
        welch = scipy.stats.ttest_ind(of_seeds, of_blocks, equal_var=False)
        assert clustered.freedom == pytest.approx(welch.df)
        same = statistics.difference_annealed(rows(base), rows(base))
        assert (same.value, same.error, same.is_significant) == (0, 0, False)

    @pytest.mark.parametrize(("num_seeds", "most"), [(2, 3 / 20), (3, 2 / 20)])
    def test_chance_alone_is_bold_as_seldom_as_the_page_says(self, rng, num_seeds, most):
        """Differences whose expectation is 0, with any share of their variance due to seeds."""
        rates = []
        for share in (0.0, 0.3, 0.7, 0.9, 1.0):
            shape = (2000, num_seeds, 100)
            each = np.sqrt(share * num_seeds) * rng.normal(size=(*shape[:2], 1))
            each = each + np.sqrt((1 - share) * 100) * rng.normal(size=(shape[0], 1, 100))
            found = (statistics.over_seeds_and_images(x, np.arange(100)) for x in each)
            rates.append(np.mean([value.is_significant for value in found]))
        four_errors = 4 * np.sqrt(0.05 * 0.95 / 2000)
        assert 0.05 - four_errors < min(rates)
        assert max(rates) < most

    def test_annealed_differences_are_of_the_same_images(self):
        ours, theirs = (annealed(pd.Series([1.0, 2.0], list(images))) for images in ("ab", "ba"))
        assert statistics.difference_annealed(ours, ours).value == 0
        for rows, others in ((ours, theirs), (annealed(ours["each"][0], theirs["each"][0]),) * 2):
            with pytest.raises(ValueError, match="same test images"):
                statistics.difference_annealed(rows, others)

    def test_effective_size(self):
        """One of four chains has all the weight, or two share it, or all of them do."""
        for weights, expected in (((1, 0, 0, 0), 1), ((1, 1, 0, 0), 2), ((1, 1, 1, 1), 4)):
            error = scipy.stats.sem(weights) / np.mean(weights)  # of each of nine images
            row = {"annealed_monte_carlo_error": error / np.sqrt(9), "num_annealed": 9}
            found = statistics.effective_sizes(pd.DataFrame([row | {"num_chains": 4}]), "annealed")
            assert found[0] == pytest.approx(expected)

    def test_denoising_rows_are_means_over_seeds(self):
        cells = {
            "dvae-0": {0: denoised(9.0), 1: denoised(9.0)},
            "dvae-2_5": {0: denoised(10.0), 1: denoised(14.0)},
            "dae-2_5": {0: denoised(9.0)},
        }
        cells = table_of(cells)
        lines = denoising.section(cells)
        assert "| DVAE | 2.5 % | 12.00 ± 2.00 | 12.00 ± 2.00 | 2 |" in lines
        assert "| DAE | 2.5 % | 9.00 | 9.00 | 1 |" in lines
        assert (
            "| DVAE minus DVAE without noise | 2.5 % | +3.00 ± 2.00 | +3.00 ± 2.00 | 2 |" in lines
        )
        assert "| DVAE minus DAE | 2.5 % | +1.00 | +1.00 | 1 |" in lines  # the seed that both have
        assert len(denoising.draw(cells).axes) == 2

    def test_study_rows_are_what_noise_adds(self):
        """A cell without its VAE, uneven seeds, and the cells of the other table."""
        cells = {
            "static-300-0": {0: measured(-100.0), 1: measured(-101.0)},
            "static-300-5": {0: measured(-99.0), 1: measured(-100.0), 2: measured(0.0)},
            "dynamic-1000-0": {0: measured(-90.0), 1: measured(-91.0)},
            "dynamic-1000-15": {0: measured(-93.0), 1: measured(-96.0), 2: measured(0.0)},
            "dynamic-1000-15_conditional": {0: measured(-92.0), 1: measured(-93.0)},
            "dynamic-1000-15_mixture": {0: measured(-94.0), 1: measured(-95.0)},
            "dynamic-5000-15": {0: measured(-1.0)},
        }
        cells = table_of(cells)
        lines = regularization.section(cells)
        for estimator in (0, 1):  # annealed, then importance sampling, which is made 5 less
            vae = f"{-100.5 - 5 * estimator:.2f} ± 0.50"
            assert lines.count(f"| static | 300 | 7 | 4 | {vae} | **+1.00 ± 0.00** |  | 2 |") == 2
        row = "| dynamic | 1,000 | 7 | 4 | -90.50 ± 0.50 |  | -4.00 ± 1.00 | 2 |"
        assert lines.count(row) == 2
        text = (
            "Static binarisation: noise is significantly better in 1 cells, "
            "significantly worse in 0, and neither in 0 of 1."
        )
        assert sum(text in line for line in lines) == 4
        row = (
            "| -90.50 ± 0.50 | -94.50 ± 1.50 | -92.50 ± 0.50 | -94.50 ± 0.50 "
            "| +2.00 ± 1.00 | +0.00 ± 1.00 | **-2.00 ± 0.00** | 2 |"
        )
        assert f"| dynamic | last {row}" in lines
        assert len(regularization.draw(cells).axes) == 4

    def test_frey_rows(self):
        cells = {
            "contiguous-gaussian-0": {0: measured(10.0), 1: measured(11.0)},
            "contiguous-gaussian-2_5": {0: measured(12.0), 1: measured(15.0)},
            "random-gaussian-0": {0: measured(20.0), 1: measured(21.0), 2: measured(0.0)},
            "random-discretized_logistic-5": {0: measured(-3.0)},
        }
        cells = table_of(cells)
        lines = frey.section(cells)
        assert (
            "| gaussian | 0 % | 10.50 ± 0.50 |  | 13.67 ± 6.84 |  | **+10.00 ± 0.00** | 2 |"
            in lines
        )
        assert "| gaussian | 2.5 % | 13.50 ± 1.50 | +3.00 ± 1.00 |  |  |  | 0 |" in lines
        assert "| gaussian | 0 % | 5.50 ± 0.50 |  | 8.67 ± 6.84 |  | 2 |" in lines  # sampled
        assert "| discretized logistic | 5 % |  |  | -3.00 |  |  | 0 |" in lines
        assert "random split adds on the 4 frames that both test" in "\n".join(lines)
        of_leak = frey.draw(cells).axes[-1]
        heights = of_leak.containers[0][0].get_ydata()
        assert heights == pytest.approx([10.0, math.nan], nan_ok=True)  # of 0 and of 2.5 %

    def test_without_shared_frames_there_is_no_leak(self):
        """As in `make results-quick`, which anneals few frames."""
        cells = {"contiguous-gaussian-0": {0: measured(10.0)}}
        others = measured(20.0)
        others["each"] = others["each"].set_axis(list("efgh"))
        cells = table_of(cells | {"random-gaussian-0": {0: others}})
        lines = frey.section(cells)
        assert "| gaussian | 0 % | 10.00 |  | 20.00 |  |  | 1 |" in lines
        assert "The leak is unknown, because no frame is in both." in "\n".join(lines)
        assert len(frey.draw(cells).axes) == 1
        assert len(frey.draw(of_cell(cells, "contiguous-gaussian-0")).axes) == 1

    def test_leak_is_of_the_frames_that_both_splits_test(self, rng):
        """Frames 1, 3 and 4 are in both, in three of the contiguous split's four blocks."""

        def rows(digests, *each):
            return annealed(*(pd.Series(values, digests) for values in each))

        here, there = rng.normal(size=(2, 8)), rng.normal(size=(2, 4)) + 50
        contiguous = rows([f"frame {i}" for i in range(8)], *here)
        random = rows(["frame 3", "another", "frame 1", "frame 4"], *there)
        found = frey.leak(contiguous, random)
        differences = there[:, [2, 0, 3]] - here[:, [1, 3, 4]]
        assert found.value == pytest.approx(differences.mean())
        of_seeds, of_images = differences.mean(axis=1), differences.mean(axis=0)
        expected = np.hypot(scipy.stats.sem(of_seeds), scipy.stats.sem(of_images))
        assert found.error == pytest.approx(expected)

    def test_blocks_are_those_of_the_contiguous_split(self):
        """The test frames are in order, and apart where one block ends and the next begins."""
        count, size = 1965, 196
        frames = holding_out._blocks(count, size, 2)[1]
        blocks = statistics.block_of(size, frey.NUM_BLOCKS)
        assert np.array_equal(np.diff(frames) > 1, np.diff(blocks) > 0)

    def test_mnist_and_long_rows(self):
        cells = {
            "vae": {0: measured(-90.0), 1: measured(-90.5)},
            "iwae": {0: measured(-88.0), 1: measured(-88.5)},
            "dvae-masking-10": {0: measured(-91.0), 1: measured(-92.0)},
        }
        runs_of = table_of({"iwae-5": cells["iwae"], "vae": cells["vae"]})
        cells = table_of(cells)
        rows = [line for line in mnist.section(cells) if line.startswith("|")][2:]
        assert [row.split(" | ")[0] for row in rows] == [
            "| IWAE, K=5", "| VAE", "| DVAE, masking 10 %",
        ]  # fmt: skip
        assert "| -93.25 ± 0.25 | **+2.00 ± 0.00** | **+2.00 ± 0.00** | -96.25 ± 0.25 |" in rows[0]
        assert "| -96.50 ± 0.50 | -1.25 ± 0.25 | -1.25 ± 0.25 |" in rows[2]
        (axes,) = mnist.draw(cells).axes
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ["DVAE, masking 10 %", "IWAE, K=5"]
        for line in (each[0] for each in axes.containers):  # of the model alone, and of its encoder
            assert line.get_xdata() == pytest.approx([-1.25, 2.0])
        without = mnist.draw(of_cell(cells, "iwae")).axes[0].containers[0][0]
        assert np.isnan(np.array(without.get_xdata(), float)).all()
        source = "here, 50 latents, 7 epochs of 55 images in batches of 11, staged learning rate"
        lines = long.section(runs_of)
        place = lines.index(f"| VAE | {source} | -95.00 ± 0.40 |")
        assert lines[place + 1].startswith(f"| IWAE, K=5, doubly reparameterised | {source} | -93")
        assert {each.cell.name for each in trials.select(["long"])} == set(long.LABELS)

    def test_seeds_that_are_missing_leave_gaps(self):
        """A row without the VAE's seed, and VAEs alone."""
        study = table_of(
            {"static-300-0": {0: measured(-100.0)}, "static-300-5": {1: measured(-99.0)}}
        )
        lines = regularization.section(study)
        assert lines.count("| static | 300 | 7 | 4 | -100.00 |  | 0 |") == 2
        alone = of_cell(study, "static-300-0")
        assert "The weights after the last epoch." in regularization.section(alone)
        for cells in (study, alone):
            assert len(regularization.draw(cells).axes) == 4

    def test_pages_elsewhere_have_the_tables_of_their_own_numbers(self, tmp_path, capsys):
        """As `make results-quick` does: bounds of the linear-Gaussian model, none of MNIST."""
        results, docs = tmp_path / "results", tmp_path / "docs"
        results.mkdir()
        for path in (ROOT / "results").glob("frey.*"):
            shutil.copy(path, results)
        linear = [
            line
            for line in (ROOT / "results" / "bounds.csv")
            .read_text(encoding="utf-8")
            .splitlines(keepends=True)
            if not line.startswith("mnist")
        ]
        (results / "bounds.csv").write_text("".join(linear), encoding="utf-8")
        assert pages.main(["--results", str(results), "--docs", str(docs)]) == 0
        page, own = (
            (each / "bounds.md").read_text(encoding="utf-8") for each in (docs, ROOT / "docs")
        )
        (table,) = re.findall("<!-- table mnist -->(.*?)<!-- end -->", page, re.DOTALL)
        assert table.strip() == "Not measured."
        assert page.replace(table, "") == re.sub(
            "(?<=<!-- table mnist -->).*?(?=<!-- end -->)", "", own, flags=re.DOTALL
        )
        said = [f"Wrote {docs / name}" for name in ("results.md", "bounds.md")]
        assert capsys.readouterr().out.splitlines() == said
        assert {path.stem for path in docs.glob("images/*.png")} == {"bounds", "results-frey"}

    def test_without_results_nothing_is_written(self, tmp_path, capsys):
        docs = tmp_path / "docs"
        for results, part in ((tmp_path / "none", "without any"), (ROOT / "results", "--docs")):
            words = ["--results", str(results)] + (
                ["--docs", str(docs)] if part != "--docs" else []
            )
            with pytest.raises(SystemExit) as stopped:
                pages.main(words)
            assert stopped.value.code == 2
            assert part in capsys.readouterr().err.splitlines()[-1]
        assert not docs.exists()

    @pytest.mark.parametrize("table", ["mnist", "bounds"])
    def test_damaged_tables_are_said_in_one_line(self, tmp_path, capsys, table):
        """By the maker of pages, which leaves those that there are, and by the runner."""
        results, docs = tmp_path / "results", tmp_path / "docs"
        results.mkdir()
        docs.mkdir()
        (docs / "bounds.md").write_text("as it was", encoding="utf-8")
        for source in (ROOT / "results").iterdir():
            if source.stem in (table, "long"):  # which is quickly made a page of
                shutil.copy(source, results)
        whole = {path: path.read_bytes() for path in results.glob(f"{table}.*")}
        text, arrays = whole[results / f"{table}.csv"], results / "mnist.npz"
        damaged = [(results / f"{table}.csv", x) for x in (
            text[:-1], text[:-40], text.replace(b"1", b"x"), b"", b"a,b\n1,2\n", b"\xff", b"{}",
            text.replace(b",quantity,", b",x,").replace(b",log_likelihood,", b",x,"),
        )]  # fmt: skip
        if table == "mnist":
            damaged += [(results / "mnist.csv", None), (arrays, None)]
            damaged += [(arrays, x) for x in (b"", b"{}", whole[arrays][:-9], whole[arrays][:999])]
            texts = (b"", b"{}", b"[]", b"null", b'{"shared": {}, "cells": [{}]}', b'{"shared": ')
            damaged += [(results / "mnist.json", x) for x in texts]
        for path, content in damaged:
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            commands = [(pages.main, ["--results", str(results), "--docs", str(docs)])]
            if table == "mnist" and b",x," not in (content or b""):
                commands.append((run.main, ["mnist", "--list", "--results", str(results)]))
            for main, words in commands:
                with pytest.raises(SystemExit) as stopped:
                    main(words)
                assert stopped.value.code == 2
                (line,) = capsys.readouterr().err.splitlines()
                assert str(path) in line, content
                assert "must" in line
                assert "again" in line
            assert (docs / "bounds.md").read_text(encoding="utf-8") == "as it was"
            assert [path.name for path in docs.iterdir()] == ["bounds.md"]
            path.write_bytes(whole[path])

    @pytest.mark.parametrize("label", ["none-0", "vae-7"])
    def test_trials_that_are_not_declared_are_said_in_one_line(self, tmp_path, capsys, label):
        archive.record(tmp_path, "mnist", label, {}, [{"weights": "best"}])
        with pytest.raises(SystemExit) as stopped:
            pages.main(["--results", str(tmp_path), "--docs", str(tmp_path / "docs")])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{tmp_path / 'mnist'}.csv, with {label}." in line


def annealed(*each):
    """Rows of the best weights of one cell: annealed log p(x) of images, a Series for each seed."""
    return pd.DataFrame({"seed": range(len(each)), "weights": "best", "each": list(each)})


def table_of(cells):
    """An experiment's numbers as they are read: cell -> seed -> those of either weights."""
    rows = [
        {"cell": name, "seed": seed, "weights": weights, **numbers}
        for name, seeds in sorted(cells.items())
        for seed, numbers in seeds.items()
        for weights in ("best", "last")
    ]
    return pd.DataFrame(rows)


def denoised(psnr):
    """Numbers of a trial as the section on denoising reads them, of one level of noise."""
    row = {"psnr_at_0.1": psnr, "probe_accuracy_at_0.1": psnr / 100}
    return row | {"epochs": 1, "measure.test_levels": [0.1]}


def measured(value):
    """Numbers of a trial: annealed log p(x), 5 less by importance sampling, an elbo of 8 less."""
    return {
        "annealed": value, "annealed_standard_error": 1.0, "annealed_monte_carlo_error": 0.1,
        "num_annealed": 4, "num_chains": 4, "num_temperatures": 9,
        "each": pd.Series([value] * 4, list("abcd")),
        "log_likelihood": value - 5, "log_likelihood_standard_error": 0.4,
        "log_likelihood_monte_carlo_error": 0.2, "num_samples": 50, "num_test_images": 3,
        "elbo": value - 8, "corrupted_bound": value - 9, "active_units": 10,
        "configuration.validate_every": 2, "configuration.schedule": "staged",
        "configuration.batch_size": 11, "epochs": 7, "num_training_images": 55,
    }  # fmt: skip


class TestBounds:
    def test_best_encoder_is_a_maximum(self, rng):
        """The gradients by hand vanish, up to the draws that p(x) is averaged over."""
        model = LinearGaussian.make()
        x = rng.normal(size=(400_000, 2)) @ model.W.T + model.b
        x += model.s * rng.normal(size=x.shape)
        gradients = bounds.best_encoder(model, 0.5).l_dvae_gradients(x)
        for name in ("A", "c", "d"):
            assert np.abs(gradients[name]).max() < 0.02, name
        off = LinearGaussian.make(sigma=0.5).l_dvae_gradients(x)
        assert max(np.abs(off[name]).max() for name in ("A", "c", "d")) > 0.1

    def test_log_p_is_exact(self):
        """Minus the entropy of a Gaussian: the draws of x have just its mean and covariance."""
        model = LinearGaussian.make()
        covariance = model.W @ model.W.T + model.s**2 * np.eye(len(model.b))
        expected = -scipy.stats.multivariate_normal(model.b, covariance).entropy()
        found = [row["mean"] for row in bounds.linear_gaussian(50)[1] if row["quantity"] == "log_p"]
        assert found == pytest.approx([expected] * len(bounds.LEVELS), abs=1e-4)

    @pytest.mark.slow
    def test_other_runs_are_refused(self, done, tmp_path, capsys):
        for run_dir, part in (
            (done / "runs" / "tiny" / "dae-20-0", "on digits"),
            (tmp_path, "config.json"),
        ):
            with pytest.raises(SystemExit) as stopped:
                bounds.main([str(run_dir), "--results", str(tmp_path / "results")])
            assert stopped.value.code == 2
            assert part in capsys.readouterr().err.splitlines()[-1]
        assert not (tmp_path / "results").exists()

    def test_gap_is_the_mutual_information(self):
        rows = pd.DataFrame(bounds.linear_gaussian(5000)[1])
        for _, at_level in rows.groupby("sigma"):
            value = at_level.set_index("quantity")["mean"]
            gap = value["l_cvae"] - value["l_dvae"]
            assert gap == pytest.approx(value["mutual_information"], abs=2e-4)
            last = value["l_dvae"]
            mixtures = at_level[at_level["quantity"] == "mixture"]
            assert tuple(mixtures["num_corruptions"]) == bounds.MIXTURES
            for bound, error in zip(mixtures["mean"], mixtures["standard_error"], strict=True):
                assert bound >= last - 4 * error
                last = bound
            assert last <= value["l_cvae"] + 4 * error + 1e-4
            assert value["l_cvae"] <= value["log_p"]


@pytest.fixture(scope="module")
def cells():
    return pages.read(ROOT / "results", "regularization")


@pytest.fixture(scope="module")
def frey_cells():
    return pages.read(ROOT / "results", "frey")


@pytest.fixture(scope="module")
def mnist_cells():
    return pages.read(ROOT / "results", "mnist")


@pytest.fixture(scope="module")
def denoising_cells():
    return pages.read(ROOT / "results", "denoising")


class TestClaims:
    """What docs/noise.md says in words, of the numbers in results/."""

    @staticmethod
    def beyond_vae(cells, estimator, of):
        """What noise adds: (binarisation, images) -> a difference for each of 5, 15 and 30 %."""
        found = regularization.beyond_vae(regularization.study_of(cells), estimator, of)
        return {
            (binarize, count): [found[binarize, count, level] for level in (5, 15, 30)]
            for binarize in ("static", "dynamic")
            for count in (300, 1000, 5000, 55000)
        }

    def test_validated_weights_gain_nothing(self, cells):
        found = self.beyond_vae(cells, "annealed", "best")
        every = [value for values in found.values() for value in values]
        assert not any(value.is_better for value in every)
        assert sum(value.is_significant for value in every) > len(every) / 2
        assert all(high.is_significant for *_, high in found.values())

    def test_last_weights_gain_where_few_images_are_binarised_once(self, cells):
        found = self.beyond_vae(cells, "annealed", "last")
        better = {key: [value.is_better for value in values] for key, values in found.items()}
        assert better.pop(("static", 1000)) == [True, True, True]
        assert better.pop(("static", 300)) == [False, False, True]
        assert not any(any(values) for values in better.values())

    @staticmethod
    def as_last(rows):
        """The trials with the best weights in place of the last ones."""
        return rows[rows["weights"] == "best"].assign(weights="last")

    def test_early_stopping_gains_more(self, cells):
        for count in (300, 1000):
            stopped = self.as_last(of_cell(cells, f"static-{count}-0"))
            for level in (5, 15, 30):
                noisy = of_cell(cells, f"static-{count}-{level}")
                assert statistics.difference_annealed(stopped, noisy, of="last").is_better

    def test_early_stopping_may_come_too_early(self, cells):
        vae = of_cell(cells, "dynamic-1000-0")
        assert statistics.difference_annealed(vae, self.as_last(vae), of="last").is_better

    def test_mixture_ends_lower(self, cells):
        found = regularization.posteriors_of(cells, "static")

        def beyond(name, other):
            return statistics.difference_annealed(found[name], found[other], of="last")

        for binarize, of in (("static", "best"), ("dynamic", "best"), ("dynamic", "last")):
            each = regularization.posteriors_of(cells, binarize)
            value = statistics.difference_annealed(each["mixture"], each["M=1"], of=of)
            assert not value.is_significant
        assert beyond("M=1", "mixture").is_better
        assert not beyond("mixture", "conditional").is_significant
        assert beyond("conditional", "M=1").value < 0

    def test_importance_sampling_judges_the_encoder_too(self, cells):
        """Beyond two errors of the difference of both estimates of what noise adds."""
        sampled, annealed = (
            self.beyond_vae(cells, estimator, "last")
            for estimator in ("log_likelihood", "annealed")
        )
        more = {
            key: [
                (one.value - other.value) / np.hypot(one.error, other.error)
                for one, other in zip(sampled[key], annealed[key], strict=True)
            ]
            for key in sampled
        }
        assert min(more["static", 1000]) > 2
        assert max(more["dynamic", 300][1:]) < -2

    @pytest.mark.parametrize("family", frey.LIKELIHOODS)
    def test_importance_sampling_prefers_noise_on_the_contiguous_split(self, frey_cells, family):
        base = of_cell(frey_cells, f"contiguous-{family}-0")
        for level in ("2_5", "5", "7_5", "10"):
            noisy = of_cell(frey_cells, f"contiguous-{family}-{level}")
            difference = statistics.difference(noisy, base, "log_likelihood")
            assert difference.value > 0
            assert difference.is_better == (level != "10")

    @pytest.mark.parametrize("family", frey.LIKELIHOODS)
    def test_noise_is_not_better_on_frey_faces(self, frey_cells, family):
        for split in frey.SPLITS:
            base = of_cell(frey_cells, f"{split}-{family}-0")
            for level in ("2_5", "5", "7_5", "10"):
                noisy = of_cell(frey_cells, f"{split}-{family}-{level}")
                found = frey.beyond_no_noise(noisy, base)
                assert not found.is_better
                assert found.is_significant == (split == "random" and level != "2_5")

    def test_random_split_leaks(self, frey_cells):
        leaks = [frey.leak(**of_splits) for *_, of_splits in frey.by_level(frey_cells)]
        assert len(leaks) == 10
        assert all(leak.is_better for leak in leaks)
        values, errors = ([getattr(x, key) for x in leaks] for key in ("value", "error"))
        page = " ".join((ROOT / "docs" / "noise.md").read_text(encoding="utf-8").split())
        said = f"by {min(values):.0f} to {max(values):.0f} nats, with a standard error of "
        assert f"{said}{min(errors):.0f} to {max(errors):.0f}." in page

    def test_annealing_is_looser_for_what_overfits(self, cells):
        """Last weights of 1,000 images binarised once: the effective number of chains."""
        last = cells[cells["weights"] == "last"]
        sizes = [
            statistics.effective_sizes(of_cell(last, f"static-1000-{level}"), "annealed").mean()
            for level in (0, 5, 15, 30)
        ]
        assert sizes == sorted(sizes)
        assert sizes[-1] > sizes[0] + 0.4

    def test_all_images_were_not_trained_on_for_long_enough(self, cells, mnist_cells):
        """The validation bound was best in the last tenth of the epochs."""
        for rows in (cells[cells["cell"].str.contains("-55000-")], mnist_cells):
            assert (rows["best_epoch"] > 0.9 * rows["epochs"]).all()

    @pytest.mark.parametrize(
        ("key", "levels", "test_levels"),
        [("psnr", (5, 10, 20, 30), (0.1, 0.3)), ("probe_accuracy", (5, 10, 20, 30, 50), (0.1,))],
    )
    def test_noise_buys_denoising_and_features(self, denoising_cells, key, levels, test_levels):
        for test_level in test_levels:
            found = denoising.denoised(denoising_cells, "dvae", key, test_level)
            for level in levels:
                assert statistics.paired(found[level], found[0]).is_better

    def test_denoising_autoencoder_denoises_better(self, denoising_cells):
        dae, dvae = (denoising.denoised(denoising_cells, x, "psnr", 0.1) for x in ("dae", "dvae"))
        for level in (0, 5, 10, 20, 30, 50):
            assert statistics.paired(dae[level], dvae[level]).is_better

    @pytest.mark.parametrize("name", ["iwae", "diwae-salt_pepper-5"])
    def test_more_samples_raise_the_likelihood(self, mnist_cells, name):
        for estimator in statistics.ESTIMATORS:
            assert mnist.beyond_vae(mnist_cells, name, estimator).is_better

    def test_mixture_gives_back_what_noise_costs_the_iwae(self, mnist_cells):
        noisy = of_cell(mnist_cells, "diwae-salt_pepper-5")
        mixture, single = (of_cell(mnist_cells, f"{x}-salt_pepper-5") for x in ("mixture", "dvae"))
        for estimator in statistics.ESTIMATORS.values():
            for name in ("iwae", "mixture-diwae-salt_pepper-5"):
                assert estimator.difference(of_cell(mnist_cells, name), noisy).is_better
            assert not estimator.difference(mixture, single).is_significant

    def test_most_noise_is_worse_on_mnist(self, mnist_cells):
        names = [f"dvae-{kind}-{level}" for kind in mnist.NOISES for level in (5, 10, 15)]
        for estimator in statistics.ESTIMATORS:
            beyond = [mnist.beyond_vae(mnist_cells, name, estimator) for name in names]
            assert sum(value.is_significant for value in beyond) > len(names) / 2

    @pytest.mark.parametrize("kind", mnist.NOISES)
    def test_no_kind_of_noise_is_better_on_mnist(self, mnist_cells, kind):
        sampled = []
        for level in (5, 10, 15):
            beyond = {
                estimator: mnist.beyond_vae(mnist_cells, f"dvae-{kind}-{level}", estimator)
                for estimator in statistics.ESTIMATORS
            }
            assert not any(value.is_better for value in beyond.values())
            sampled.append(beyond["log_likelihood"].value)
        assert 0 > sampled[0] > sampled[1] > sampled[2]


class TestPages:
    def test_results_are_those_that_are_committed(self):
        assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == pages.render(
            pages.read_all(ROOT / "results")
        )

    def test_tables_of_bounds_are_those_that_are_committed(self):
        page = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
        tables = bounds_tables.tables(ROOT / "results")
        assert set(tables) == set(re.findall("<!-- table (.*?) -->", page))
        assert page == pages.with_tables(page, tables)

    @staticmethod
    def drawn(figure):
        """What a figure marks: (x, y) of all points that are there and have a bar or a legend."""
        lines = [line for axes in figure.axes for each in axes.containers for line in [each[0]]]
        points = [np.stack([line.get_xdata(), line.get_ydata()], -1) for line in lines]
        found = np.concatenate(points).astype(float)
        return found[np.isfinite(found).all(axis=1)]

    @pytest.mark.parametrize("name", [name for name, (_, draw) in pages.SECTIONS.items() if draw])
    def test_figures_mark_the_numbers_of_the_page(self, name):
        """A mean or a difference of each point stands in a table of the committed page."""
        page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
        (image,) = re.findall(rf"!\[[^]]*\]\(images/results-{name}.png\)", page)
        section = page.partition(image)[2].partition("\n## ")[0]
        numbers = set(re.findall(r"[-+]?\d+\.\d\d", section))
        figure = pages.SECTIONS[name][1](pages.read(ROOT / "results", name))
        points = self.drawn(figure)
        plt.close(figure)
        values = points[:, 0 if name == "mnist" else 1]
        assert len(values) >= 24
        assert all({f"{x:.2f}", f"{x:+.2f}"} & numbers for x in values)

    def test_figure_of_the_bounds_marks_the_numbers_of_the_page(self):
        page = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
        numbers = set(re.findall(r"-\d+\.\d{3}", page))
        figure = bounds_tables.draw(ROOT / "results")
        points = self.drawn(figure)
        plt.close(figure)
        whole = points[: len(points) // 2]  # the other half is the same, beyond its first value
        assert len(whole) == len(bounds.LEVELS) * (3 + len(bounds.MIXTURES))
        assert all(f"{y:.3f}" in numbers for _, y in whole)

    def test_results_are_few_and_small(self):
        sizes = [path.stat().st_size for path in (ROOT / "results").rglob("*")]
        assert len(sizes) <= 3 * (len(trials.EXPERIMENTS) + 1)
        assert sum(sizes) < 400_000

    def test_columns_of_results_are_documented(self):
        page = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
        named = set(re.findall("`([a-z_]+)`", page))
        for name in trials.EXPERIMENTS:
            columns = set(archive.read(ROOT / "results", name)) - {"each"}  # annealed, of images
            for end in ("_standard_error", "_monte_carlo_error", r"_at_[\d.]+", r"\..*"):
                columns = {re.sub(end + "$", "", column) for column in columns}
            columns = {column.removeprefix("corrupted_") for column in columns}
            assert columns <= named, f"{name}: {columns - named}"
        assert set(archive.read_bounds(ROOT / "results")) <= named
        with np.load(ROOT / "results" / "frey.npz") as arrays:
            assert set(arrays) <= named

    def test_annealed_values_of_images_are_those_of_their_means(self):
        for name in ("mnist", "frey", "regularization"):
            rows = archive.read(ROOT / "results", name)
            means = np.array([each.mean() for each in rows["each"]])
            assert np.abs(means - rows["annealed"]).max() < 5e-4
            errors = [scipy.stats.sem(each) for each in rows["each"]]
            assert errors == pytest.approx(rows["annealed_standard_error"].to_list(), abs=1e-3)

    def test_words_about_the_bounds_are_those_of_their_numbers(self):
        page = " ".join((ROOT / "docs" / "bounds.md").read_text(encoding="utf-8").split())
        content = json.loads((ROOT / "results" / "bounds.json").read_text(encoding="utf-8"))[
            "mnist"
        ]
        (level,) = re.findall(r"--noise salt_pepper --noise-level ([\d.]+) ", content["model"])
        assert f"with {100 * float(level):g} % salt and pepper" in page
        assert f"python train.py {content['model']} --run-dir RUN_DIR" in page
        assert f"on {content['num_images']} test images" in page
        assert f"importance sampling with {content['num_importance_samples']:,} samples" in page
        model = LinearGaussian.make()
        assert f"x ~ N(W z + b, {model.s**2:.2f} I)" in page

    def test_long_runs_of_the_readme_are_those_that_are_committed(self):
        page = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
        cells = pages.read(ROOT / "results", "long").set_index("cell")
        vae, iwae = (
            "{:.2f} ± {:.2f}".format(
                *cells.loc[name, ["log_likelihood", "log_likelihood_standard_error"]]
            )
            for name in ("vae-cosine", "iwae-5")
        )
        assert f"{vae} nats on the test images as a VAE and {iwae} as an IWAE with K=5" in page
        plain, doubly = (
            [f"{x:.2f}" for model, source, x in long.PUBLISHED if who in source and what in model]
            for who, what in (("Burda", "E"), ("nbip", "doubly"))
        )
        assert f"Burda et al. (2016) report {plain[0]} and {plain[1]} with plain gradients" in page
        assert f"with these and 100 latents, {doubly[0]} and {doubly[1]}." in page

    def test_speed_is_what_the_benchmarks_measured(self):
        assert (ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == speed.render()

    def test_committed_numbers_are_those_of_the_declared_trials(self):
        results = ROOT / "results"
        found = {
            f"{x}/{label}" for x in trials.EXPERIMENTS for label in archive.settings_of(results, x)
        }
        assert found == {each.name for each in ALL}
        assert all(run.is_done(each, results) for each in ALL)
