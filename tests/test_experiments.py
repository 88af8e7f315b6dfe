"""The experiments' declarations, runner and tables; and that pages hold the committed numbers."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from conftest import ROOT

from benchmarks import report as speed
from dvae_tf import datasets, likelihood
from dvae_tf.runs import command_line, defaults, training
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options
from experiments import bounds, bounds_tables, report, run, runs, statistics
from experiments.linear_gaussian import LinearGaussian
from experiments.sections import denoising, frey, long, mnist, regularization

ALL = runs.select()
TINY = runs.Cell(
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
    measure=runs.Measure(num_importance_samples=20, limit=30, last=True, test_levels=(0.0, 0.2)),
    num_seeds=2,
)


class TestDeclarations:
    def test_names_are_unique(self):
        assert len({each.name for each in ALL}) == len(ALL)

    @pytest.mark.parametrize("quick", [False, True])
    def test_flags_are_valid_and_the_command_says_them_all(self, quick):
        for each in (each for each in runs.select(quick=quick) if each.seed == 0):
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
                for each in runs.select([name])
            }
            assert len(budgets) == 1

    def test_unknown_experiment_is_refused(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            run.main(["celeba"])
        assert stopped.value.code == 2
        assert "must be one of" in capsys.readouterr().err

    def test_quick_cells_are_declared(self, capsys):
        declared = {(each.cell.experiment, each.cell.name) for each in ALL}
        quick = {(name, cell) for name, cells in runs._QUICK_CELLS.items() for cell in cells}
        assert quick <= declared
        with pytest.raises(SystemExit) as stopped:
            run.main(["long", "--quick"])
        assert stopped.value.code == 2
        assert "without --quick" in capsys.readouterr().err

    @pytest.mark.parametrize("flag", ["--runs", "--results"])
    def test_unusable_places_are_said_before_training(self, tmp_path, capsys, flag):
        (tmp_path / "file").write_text("")
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
        each = runs.Run(TINY, seed)
        run.train_and_measure(each, path / "runs" / each.name, path / "results", None)
    return path


class TestRunner:
    def numbers(self, done, seed=0):
        return json.loads((done / "results" / f"tiny/dae-20-{seed}" / "metrics.json").read_text())

    def test_is_done_only_as_it_is_declared(self, done):
        results = done / "results"
        assert run.is_done(runs.Run(TINY, 0), results)
        assert not run.is_done(runs.Run(TINY, 2), results)
        other = dataclasses.replace(TINY, flags=TINY.flags | {"epochs": 3})
        assert not run.is_done(runs.Run(other, 0), results)
        reordered = dataclasses.replace(TINY, flags=dict(reversed(TINY.flags.items())))
        assert run.is_done(runs.Run(reordered, 0), results)

    def test_numbers_are_those_of_the_run(self, done):
        numbers = self.numbers(done)
        run_dir = done / "runs" / "tiny" / "dae-20-0"
        history = RunDirectory(run_dir).read_history()
        assert numbers["epochs"] == 2
        assert numbers["best_epoch"] == 1 + np.argmax(history["val_bound"])
        model = RunDirectory(run_dir).load_model()
        images = datasets.as_float(datasets.load("digits").test.images[:30])
        expected = likelihood.importance_sampling(
            model.encoder, model.decoder, images, num_samples=20, seed=0
        )
        found = numbers["best"]["log_likelihood"]
        assert found["mean"] == pytest.approx(expected.mean, rel=1e-6)
        assert found["num_samples"] == 20
        assert found["count"] == 30

    def test_last_weights_are_not_the_best(self, tmp_path):
        """Few images, known by heart: after many epochs they alone are likely."""
        flags = {"epochs": 60, "limit": 10, "noise": "none", "noise_level": 0.0}
        flags |= {"validate_every": 5, "hidden": (64,), "learning_rate": 0.01, "batch_size": 5}
        how = dataclasses.replace(TINY.measure, test_levels=(), num_annealed=30)
        cell = dataclasses.replace(TINY, flags=TINY.flags | flags, measure=how)
        each = runs.Run(cell, 0)
        run.train_and_measure(each, tmp_path / "run", tmp_path / "results", None)
        numbers = json.loads((tmp_path / "results" / each.name / "metrics.json").read_text())
        assert numbers["best_epoch"] < 60
        best, last = (numbers[of]["log_likelihood"]["mean"] for of in ("best", "last"))
        assert best > last + 3
        # On the same 30 images; annealing does not depend on the encoder, which is much to blame.
        annealed = numbers["last"]["annealed"]
        assert annealed["mean"] > last + 3
        assert np.mean(annealed["each"]) == pytest.approx(annealed["mean"], abs=1e-3)

    def test_denoising_rows(self, done):
        clean, noisy = self.numbers(done)["last"]["denoising"]
        assert (clean["level"], noisy["level"]) == (0.0, 0.2)
        assert clean["noisy_psnr"]["mean"] == pytest.approx(58.9, abs=0.05)  # untouched
        assert noisy["noisy_psnr"]["mean"] < 15

    def test_says_nothing_of_this_machine(self, done):
        assert str(done) not in json.dumps(self.numbers(done))

    # The history that a KeyboardInterrupt leaves open, as the end of a process would not.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_an_interrupted_run_goes_on(self, tmp_path, done, monkeypatch):
        each = runs.Run(TINY, 0)
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
        path = tmp_path / "results" / each.name / "metrics.json"
        assert json.loads(path.read_text()) == self.numbers(done)

    def test_without_kl_only_the_last_weights_count(self, tmp_path):
        flags = {
            "epochs": 12,
            "limit": 400,
            "latent_dim": 8,
            "hidden": (32,),
            "learning_rate": 0.01,
        }
        cell = dataclasses.replace(TINY, with_kl=False, flags=TINY.flags | flags)
        each = runs.Run(cell, 0)
        run.train_and_measure(each, tmp_path / "run", tmp_path / "results", None)
        numbers = json.loads((tmp_path / "results" / each.name / "metrics.json").read_text())
        assert "best" not in numbers
        # Nothing holds the posterior near the prior.
        with_kl = runs.Run(dataclasses.replace(cell, with_kl=True), 0)
        run.train_and_measure(with_kl, tmp_path / "other", tmp_path / "results", None)
        other = json.loads((tmp_path / "results" / each.name / "metrics.json").read_text())
        assert numbers["last"]["kl"]["mean"] > 2 * other["last"]["kl"]["mean"]

    def test_runs_what_is_not_done_and_says_what_failed(self, tmp_path, tfds_dir, capfd):
        """In processes of their own: two runs are left to do, one of them of a damaged directory."""
        *others, damaged, left = runs.select(["denoising"], quick=True)
        for each in others:
            path = tmp_path / "results" / each.name / "metrics.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(run.declaration(each)))
        (tmp_path / "runs" / damaged.name).mkdir(parents=True)
        (tmp_path / "runs" / damaged.name / "config.json").write_text("{")
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
        rows = {seed: {"best": {"x": {"mean": v}}} for seed, v in enumerate((1.0, 2.0, 4.0))}
        others = {seed: {"best": {"x": {"mean": v}}} for seed, v in ((0, 0.0), (2, 3.0))}
        found = statistics.difference(rows, others, "x")
        assert (found.value, found.error, found.num_seeds) == (1.0, 0.0, 2)

    def test_bold_is_beyond_the_interval_of_student(self):
        """The 97.5 % quantile of t is 4.303 with two degrees of freedom."""
        assert statistics.certain(statistics.Mean(1.0, 0.232, 3, 2)) == "**+1.00 ± 0.23**"
        assert statistics.certain(statistics.Mean(-1.0, 0.233, 3, 2)) == "-1.00 ± 0.23"
        assert statistics.certain(statistics.Mean(1.0, math.nan, 1, 0)) == "+1.00"

    def test_verdict_counts_what_is_certain(self):
        values = [statistics.Mean(v, 0.1, 3, 2) for v in (1.0, -1.0, -2.0, 0.2, 0.0)]
        assert statistics.verdict(values) == "better in 1, worse in 2, undecided in 2 of 5"

    def test_error_of_annealed_differences_is_of_seeds_and_images(self, rng):
        effects = rng.normal(size=(3, 1)) + rng.normal(size=(1, 40))
        base = rng.normal(size=(3, 40))

        def rows(values):
            return {s: {"best": {"annealed": {"each": list(v)}}} for s, v in enumerate(values)}

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
        assert (same.value, same.error, same.is_certain) == (0, 0, False)

    @pytest.mark.parametrize(("num_seeds", "most"), [(2, 3 / 20), (3, 2 / 20)])
    def test_chance_alone_is_bold_as_seldom_as_the_page_says(self, rng, num_seeds, most):
        """Differences whose expectation is 0, with any share of their variance due to seeds."""
        rates = []
        for share in (0.0, 0.3, 0.7, 0.9, 1.0):
            shape = (2000, num_seeds, 100)
            each = np.sqrt(share * num_seeds) * rng.normal(size=(*shape[:2], 1))
            each = each + np.sqrt((1 - share) * 100) * rng.normal(size=(shape[0], 1, 100))
            found = (statistics.over_seeds_and_images(x, np.arange(100)) for x in each)
            rates.append(np.mean([value.is_certain for value in found]))
        four_errors = 4 * np.sqrt(0.05 * 0.95 / 2000)
        assert 0.05 - four_errors < min(rates)
        assert max(rates) < most

    def test_annealed_differences_are_of_the_same_images(self):
        def rows(*digests):
            annealed = {"each": [1.0, 2.0], "digests": list(digests)}
            return {0: {"best": {"annealed": annealed}}}

        older = rows()  # which does not say what its images are
        for others in (rows("a", "b"), older):
            assert statistics.difference_annealed(rows("a", "b"), others).value == 0
        with pytest.raises(ValueError, match="same test images"):
            statistics.difference_annealed(rows("a", "b"), rows("b", "a"))

    def test_effective_size(self, rng):
        """One of four chains has all the weight, or two share it, or all of them do."""
        for weights, expected in (((1, 0, 0, 0), 1), ((1, 1, 0, 0), 2), ((1, 1, 1, 1), 4)):
            error = scipy.stats.sem(weights) / np.mean(weights)  # of each of nine images
            estimate = {"monte_carlo_error": error / np.sqrt(9), "count": 9, "num": 4}
            assert statistics.effective_size(estimate, "num") == pytest.approx(expected)

    def test_denoising_rows_are_means_over_seeds(self):
        cells = {
            "dvae-0": {0: denoised(9.0), 1: denoised(9.0)},
            "dvae-2_5": {0: denoised(10.0), 1: denoised(14.0)},
            "dae-2_5": {0: denoised(9.0)},
        }
        lines = denoising.section(cells)
        assert "| DVAE | 2.5 % | 12.00 ± 2.00 | 12.00 ± 2.00 | 2 |" in lines
        assert "| DAE | 2.5 % | 9.00 | 9.00 | 1 |" in lines
        assert "| DVAE beyond no noise | 2.5 % | +3.00 ± 2.00 | +3.00 ± 2.00 | 2 |" in lines
        assert "| DVAE beyond DAE | 2.5 % | +1.00 | +1.00 | 1 |" in lines  # the seed that both have
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
        lines = regularization.section(cells)
        for estimator in (0, 1):  # annealed, then importance sampling, which is made 5 less
            vae = f"{-100.5 - 5 * estimator:.2f} ± 0.50"
            assert lines.count(f"| static | 300 | 7 | 4 | {vae} | **+1.00 ± 0.00** |  | 2 |") == 2
        row = "| dynamic | 1,000 | 7 | 4 | -90.50 ± 0.50 |  | -4.00 ± 1.00 | 2 |"
        assert lines.count(row) == 2
        text = "better in 1, worse in 0, undecided in 0 of 1 cells with static binarisation"
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
        lines = frey.section(cells)
        assert (
            "| gaussian | 0 % | 10.50 ± 0.50 |  | 13.67 ± 6.84 |  | **+10.00 ± 0.00** | 2 |"
            in lines
        )
        assert "| gaussian | 2.5 % | 13.50 ± 1.50 | +3.00 ± 1.00 |  |  |  | 0 |" in lines
        assert "| gaussian | 0 % | 5.50 ± 0.50 |  | 8.67 ± 6.84 |  | 2 |" in lines  # sampled
        assert "| discretized logistic | 5 % |  |  | -3.00 |  |  | 0 |" in lines
        assert "random split adds on the 4 that both test" in "\n".join(lines)
        of_leak = frey.draw(cells).axes[-1]
        heights = of_leak.containers[0][0].get_ydata()
        assert heights == pytest.approx([10.0, math.nan], nan_ok=True)  # of 0 and of 2.5 %

    def test_without_shared_frames_there_is_no_leak(self):
        """As in `make results-quick`, which anneals few frames."""
        cells = {"contiguous-gaussian-0": {0: measured(10.0)}}
        cells["random-gaussian-0"] = {0: measured(20.0)}
        cells["random-gaussian-0"][0]["best"]["annealed"] |= {"digests": ["e", "f", "g", "h"]}
        lines = frey.section(cells)
        assert "| gaussian | 0 % | 10.00 |  | 20.00 |  |  | 1 |" in lines
        assert "what the random one leaks cannot be told" in "\n".join(lines)
        assert len(frey.draw(cells).axes) == 1
        assert len(frey.draw({"contiguous-gaussian-0": {0: measured(10.0)}}).axes) == 1

    def test_leak_is_of_the_frames_that_both_splits_test(self, rng):
        """Frames 1, 3 and 4 are in both, in three of the contiguous split's four blocks."""

        def rows(digests, *each):
            return {
                seed: {"best": {"annealed": {"each": list(values), "digests": digests}}}
                for seed, values in enumerate(each)
            }

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
        frames = datasets._blocks(count, size, 2)[1]
        blocks = statistics.block_of(size, frey.NUM_BLOCKS)
        assert np.array_equal(np.diff(frames) > 1, np.diff(blocks) > 0)

    def test_mnist_and_long_rows(self):
        cells = {
            "vae": {0: measured(-90.0), 1: measured(-90.5)},
            "iwae": {0: measured(-88.0), 1: measured(-88.5)},
            "dvae-masking-10": {0: measured(-91.0), 1: measured(-92.0)},
        }
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
        without = mnist.draw({"iwae": cells["iwae"]}).axes[0].containers[0][0]
        assert np.isnan(np.array(without.get_xdata(), float)).all()
        runs_of = {"iwae-5": cells["iwae"], "vae": cells["vae"]}
        source = "here, 50 latents, 7 epochs of 55 images in batches of 11, staged learning rate"
        lines = long.section(runs_of)
        place = lines.index(f"| VAE | {source} | -95.00 ± 0.40 |")
        assert lines[place + 1].startswith(f"| IWAE, K=5, doubly reparameterised | {source} | -93")
        assert {each.cell.name for each in runs.select(["long"])} == set(long.LABELS)

    def test_seeds_that_are_missing_leave_gaps(self):
        """A row without the VAE's seed, and VAEs alone."""
        study = {"static-300-0": {0: measured(-100.0)}, "static-300-5": {1: measured(-99.0)}}
        lines = regularization.section(study)
        assert lines.count("| static | 300 | 7 | 4 | -100.00 |  | 0 |") == 2
        alone = {"static-300-0": study["static-300-0"]}
        assert "The weights after the last epoch." in regularization.section(alone)
        for cells in (study, alone):
            assert len(regularization.draw(cells).axes) == 4

    def test_pages_elsewhere_have_the_tables_of_their_own_numbers(self, tmp_path, capsys):
        """As `make results-quick` does: bounds of the linear-Gaussian model, none of MNIST."""
        results, docs = tmp_path / "results", tmp_path / "docs"
        for name in ("frey/contiguous-gaussian-0-0/metrics.json", "bounds/linear_gaussian.json"):
            (results / name).parent.mkdir(parents=True)
            shutil.copy(ROOT / "results" / name, results / name)
        assert report.main(["--results", str(results), "--docs", str(docs)]) == 0
        page, own = ((each / "bounds.md").read_text() for each in (docs, ROOT / "docs"))
        (table,) = re.findall("<!-- table mnist -->(.*?)<!-- end -->", page, re.DOTALL)
        assert table.strip() == "Not measured."
        assert page.replace(table, "") == re.sub(
            "(?<=<!-- table mnist -->).*?(?=<!-- end -->)", "", own, flags=re.DOTALL
        )
        pages = [f"Wrote {docs / name}" for name in ("results.md", "bounds.md")]
        assert capsys.readouterr().out.splitlines() == pages
        assert {path.stem for path in docs.glob("images/*.png")} == {"bounds", "results-frey"}

    def test_without_results_nothing_is_written(self, tmp_path, capsys):
        docs = tmp_path / "docs"
        for results, part in ((tmp_path / "none", "without any"), (ROOT / "results", "--docs")):
            words = ["--results", str(results)] + (
                ["--docs", str(docs)] if part != "--docs" else []
            )
            with pytest.raises(SystemExit) as stopped:
                report.main(words)
            assert stopped.value.code == 2
            assert part in capsys.readouterr().err.splitlines()[-1]
        assert not docs.exists()

    @pytest.mark.parametrize("content", ["{}", "[]", "null", '{"best": {}}'])
    def test_numbers_of_something_else_are_said_in_one_line(self, tmp_path, capsys, content):
        for place in ("results/frey/contiguous-gaussian-0-0/metrics.json", "docs/bounds.md"):
            (tmp_path / place).parent.mkdir(parents=True)
            (tmp_path / place).write_text(content)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stopped:
            report.main(["--results", str(tmp_path / "results"), "--docs", str(tmp_path / "docs")])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "must" in line
        assert "again" in line
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("name", ["vae-0", "none-0", "vae-7"])
    def test_damaged_and_unknown_results_are_said_in_one_line(self, tmp_path, capsys, name):
        path = tmp_path / "mnist" / name / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text('{"epochs": ')
        (vae,) = (each for each in ALL if each.name == "mnist/vae-0")
        assert not run.is_done(vae, tmp_path)
        with pytest.raises(SystemExit) as stopped:
            report.main(["--results", str(tmp_path), "--docs", str(tmp_path / "docs")])
        assert stopped.value.code == 2
        assert str(path) in capsys.readouterr().err.splitlines()[-1]


def denoised(psnr):
    """Numbers of a run as the section on denoising reads them, of one level of noise."""
    row = {"level": 0.1, "psnr": {"mean": psnr}, "probe_accuracy": {"mean": psnr / 100}}
    return {"epochs": 1, "last": {"denoising": [row]}}


def measured(value):
    """Numbers of a run: annealed log p(x), 5 less by importance sampling, an elbo of 8 less."""
    weights = {
        "annealed": {
            "mean": value, "each": [value] * 4, "count": 4, "num_chains": 4, "num_temperatures": 9,
            "digests": ["a", "b", "c", "d"], "standard_error": 1.0, "monte_carlo_error": 0.1,
        },
        "log_likelihood": {
            "mean": value - 5, "num_samples": 50, "standard_error": 0.4, "monte_carlo_error": 0.2,
            "count": 3,
        },
        "elbo": {"mean": value - 8},
        "corrupted_bound": {"mean": value - 9},
        "active_units": 10,
        "num_test_images": 3,
    }  # fmt: skip
    return {
        "configuration": {"validate_every": 2, "schedule": "staged", "batch_size": 11},
        "epochs": 7, "num_training_images": 55, "best": weights, "last": weights,
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
        for row in bounds.linear_gaussian(50)["levels"]:
            assert row["log_p"] == pytest.approx(expected, abs=1e-4)

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
        content = bounds.linear_gaussian(5000)
        for row in content["levels"]:
            gap = row["l_cvae"] - row["l_dvae"]
            assert gap == pytest.approx(row["mutual_information"], abs=2e-4)
            last = row["l_dvae"]
            for m in bounds.MIXTURES:
                assert row[f"mixture_{m}"] >= last - 4 * row[f"mixture_{m}_error"]
                last = row[f"mixture_{m}"]
            assert last <= row["l_cvae"] + 4 * row[f"mixture_{m}_error"] + 1e-4
            assert row["l_cvae"] <= row["log_p"]


@pytest.fixture(scope="module")
def cells():
    return statistics.read(ROOT / "results", "regularization")


@pytest.fixture(scope="module")
def frey_cells():
    return statistics.read(ROOT / "results", "frey")


@pytest.fixture(scope="module")
def mnist_cells():
    return statistics.read(ROOT / "results", "mnist")


@pytest.fixture(scope="module")
def denoising_cells():
    return statistics.read(ROOT / "results", "denoising")


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
        assert sum(value.is_certain for value in every) > len(every) / 2
        assert all(high.is_certain for *_, high in found.values())

    def test_last_weights_gain_where_few_images_are_binarised_once(self, cells):
        found = self.beyond_vae(cells, "annealed", "last")
        better = {key: [value.is_better for value in values] for key, values in found.items()}
        assert better.pop(("static", 1000)) == [True, True, True]
        assert better.pop(("static", 300)) == [False, False, True]
        assert not any(any(values) for values in better.values())

    @staticmethod
    def as_last(rows):
        """The runs with the best weights in place of the last ones."""
        return {seed: {"last": row["best"]} for seed, row in rows.items()}

    def test_early_stopping_gains_more(self, cells):
        for count in (300, 1000):
            stopped = self.as_last(cells[f"static-{count}-0"])
            for level in (5, 15, 30):
                noisy = cells[f"static-{count}-{level}"]
                assert statistics.difference_annealed(stopped, noisy, of="last").is_better

    def test_early_stopping_may_come_too_early(self, cells):
        vae = cells["dynamic-1000-0"]
        assert statistics.difference_annealed(vae, self.as_last(vae), of="last").is_better

    def test_mixture_ends_lower(self, cells):
        found = regularization.posteriors_of(cells, "static")

        def beyond(name, other):
            return statistics.difference_annealed(found[name], found[other], of="last")

        for binarize, of in (("static", "best"), ("dynamic", "best"), ("dynamic", "last")):
            each = regularization.posteriors_of(cells, binarize)
            value = statistics.difference_annealed(each["mixture"], each["M=1"], of=of)
            assert not value.is_certain
        assert beyond("M=1", "mixture").is_better
        assert not beyond("mixture", "conditional").is_certain
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
        base = frey_cells[f"contiguous-{family}-0"]
        for level in ("2_5", "5", "7_5", "10"):
            noisy = frey_cells[f"contiguous-{family}-{level}"]
            difference = statistics.difference(noisy, base, "log_likelihood")
            assert difference.value > 0
            assert difference.is_better == (level != "10")

    @pytest.mark.parametrize("family", frey.LIKELIHOODS)
    def test_noise_is_not_better_on_frey_faces(self, frey_cells, family):
        for split in frey.SPLITS:
            base = frey_cells[f"{split}-{family}-0"]
            for level in ("2_5", "5", "7_5", "10"):
                found = frey.beyond_no_noise(frey_cells[f"{split}-{family}-{level}"], base)
                assert not found.is_better
                assert found.is_certain == (split == "random" and level != "2_5")

    def test_random_split_leaks(self, frey_cells):
        leaks = [frey.leak(**of_splits) for *_, of_splits in frey.by_level(frey_cells)]
        assert len(leaks) == 10
        assert all(leak.is_better for leak in leaks)
        values, errors = ([getattr(x, key) for x in leaks] for key in ("value", "error"))
        page = " ".join((ROOT / "docs" / "noise.md").read_text().split())
        said = f"by {min(values):.0f} to {max(values):.0f} nats, with a standard error of "
        assert f"{said}{min(errors):.0f} to {max(errors):.0f}." in page

    def test_annealing_is_looser_for_what_overfits(self, cells):
        """Last weights of 1,000 images binarised once: the effective number of chains."""
        sizes = [
            np.mean([
                statistics.effective_size(row["last"]["annealed"], "num_chains")
                for row in cells[f"static-1000-{level}"].values()
            ])
            for level in (0, 5, 15, 30)
        ]  # fmt: skip
        assert sizes == sorted(sizes)
        assert sizes[-1] > sizes[0] + 0.4

    def test_all_images_were_not_trained_on_for_long_enough(self, cells, mnist_cells):
        """The validation bound was best in the last tenth of the epochs."""
        large = {name: rows for name, rows in cells.items() if "-55000-" in name}
        for rows in (*large.values(), *mnist_cells.values()):
            for row in rows.values():
                assert row["best_epoch"] > 0.9 * row["epochs"]

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
        noisy = mnist_cells["diwae-salt_pepper-5"]
        mixture, single = (mnist_cells[f"{x}-salt_pepper-5"] for x in ("mixture", "dvae"))
        for estimator in statistics.ESTIMATORS.values():
            for name in ("iwae", "mixture-diwae-salt_pepper-5"):
                assert estimator.difference(mnist_cells[name], noisy).is_better
            assert not estimator.difference(mixture, single).is_certain

    def test_most_noise_is_worse_on_mnist(self, mnist_cells):
        names = [f"dvae-{kind}-{level}" for kind in mnist.NOISES for level in (5, 10, 15)]
        for estimator in statistics.ESTIMATORS:
            beyond = [mnist.beyond_vae(mnist_cells, name, estimator) for name in names]
            assert sum(value.is_certain for value in beyond) > len(names) / 2

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
        assert (ROOT / "docs" / "results.md").read_text() == report.render(
            report.read_all(ROOT / "results")
        )

    def test_tables_of_bounds_are_those_that_are_committed(self):
        page = (ROOT / "docs" / "bounds.md").read_text()
        tables = bounds_tables.tables(ROOT / "results")
        assert set(tables) == set(re.findall("<!-- table (.*?) -->", page))
        assert page == report.with_tables(page, tables)

    def test_keys_of_results_are_documented(self):
        page = (ROOT / "docs" / "reproducing.md").read_text()
        named = set(re.findall("`([a-z_]+)`", page))
        for path in (ROOT / "results").glob("*/*/metrics.json"):
            content = json.loads(path.read_text())
            keys = set(content)
            for weights in (content.get("best", {}), content.get("last", {})):
                keys |= {key for key in weights if not key.startswith("corrupted_")}
                keys |= {key for row in weights.get("denoising", []) for key in row}
                keys |= set(weights.get("annealed", {})) - {
                    "mean", "standard_error", "count", "monte_carlo_error"
                }  # fmt: skip
            assert keys <= named, f"{path}: {keys - named}"

    def test_words_about_the_bounds_are_those_of_their_numbers(self):
        page = " ".join((ROOT / "docs" / "bounds.md").read_text().split())
        content = json.loads((ROOT / "results" / "bounds" / "mnist.json").read_text())
        (level,) = re.findall(r"--noise salt_pepper --noise-level ([\d.]+) ", content["model"])
        assert f"with {100 * float(level):g} % salt and pepper" in page
        assert f"python train.py {content['model']} --run-dir RUN_DIR" in page
        assert f"on {content['log_likelihood']['count']} test images" in page
        assert f"importance sampling with {content['num_importance_samples']:,} samples" in page
        model = LinearGaussian.make()
        assert f"x ~ N(W z + b, {model.s**2:.2f} I)" in page

    def test_long_runs_of_the_readme_are_those_that_are_committed(self):
        page = " ".join((ROOT / "README.md").read_text().split())
        cells = statistics.read(ROOT / "results", "long")
        vae, iwae = (
            "{mean:.2f} ± {standard_error:.2f}".format_map(cells[name][0]["best"]["log_likelihood"])
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
        assert (ROOT / "docs" / "speed.md").read_text() == speed.render()

    def test_committed_numbers_are_those_of_the_declared_runs(self):
        paths = list((ROOT / "results").glob("*/*/metrics.json"))
        names = {str(path.parent.relative_to(ROOT / "results")) for path in paths}
        assert names == {each.name for each in ALL}
        assert all(run.is_done(each, ROOT / "results") for each in ALL)
