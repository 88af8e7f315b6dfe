"""The command that denoises users' pictures: which files, what is written, skipped and named."""

import io
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import tifffile
from conftest import ROOT
from scipy import ndimage
from test_reading import TIFFS, saved, some, tiff

import denoise
from dvae_tf.denoising import denoiser, inputs, memory, progress, record
from dvae_tf.denoising.denoiser import Denoiser, Settings
from dvae_tf.denoising.job import Job
from dvae_tf.kinds.image import reading, tiles, writing
from dvae_tf.kinds.image.scale import Scale
from dvae_tf.runs.directory import RunDirectory

RUN = ROOT / "tests" / "fixtures" / "run-0.1"  # its model takes 8 x 8 pixels, grey


class StandIn:
    """A "model" of any size: blurs over seven pixels, and adds numbers that depend on the place."""

    def __init__(self, channels=1, size=(None, None)):
        self.encoder = SimpleNamespace(
            input_shape=(None, *size, channels), receptive_field=3, multiple=4
        )
        self.kind = SimpleNamespace(name="image", noun="image")
        self.seen = []

    def denoise(self, noisy, *, num_samples, seed, origin=(0, 0)):
        assert noisy.dtype == np.float32 and noisy.shape[0] == 1
        self.seen.append(noisy.shape)
        mean = ndimage.uniform_filter(noisy.astype(float), (1, 7, 7, 1), mode="constant")
        rows, columns = (o + np.arange(s) for o, s in zip(origin, noisy.shape[1:3], strict=True))
        own = np.sin(rows[:, None] * 999.0 + columns + seed + num_samples)[None, ..., None]
        return (mean + 0.01 * own).astype(np.float32), np.full(noisy.shape, 0.1, np.float32)

    def draws(self, noisy, number, *, seed, origin=(0, 0)):
        mean, _ = self.denoise(noisy, num_samples=0, seed=seed, origin=origin)
        self.seen.pop()
        return np.stack([mean + np.float32(0.1 * draw) for draw in range(number)])


class Negative(StandIn):
    """Exact: the negative of the picture, so that every stored value can be told."""

    def denoise(self, noisy, **options):
        self.seen.append(noisy.shape)
        return 1 - noisy, np.full(noisy.shape, 0.1, np.float32)

    def draws(self, noisy, number, **options):
        return np.stack([1 - noisy] * number)


def run(sources, out, model, *, key="model", scale=None, tile=None, **settings):
    settings = Settings(**settings)
    works = inputs.collect([str(source) for source in sources], out, settings)
    job = Job(works, out, Denoiser(model, settings, scale=scale, tile=tile), name="x", key=key)
    return tuple(job.run())


def grey(path, *size) -> np.ndarray:
    array = some("u1", *size)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)
    return array


# ---- what is written ----


@pytest.mark.parametrize("name", TIFFS)
def test_results_have_the_form_of_their_inputs(name, tmp_path):
    path, out = tmp_path / "picture.tif", tmp_path / "out"
    pages, _ = tiff(path, name)
    scale = Scale(-(2**15), 2**15 - 1) if name == "grey, signed" else None
    channels = pages.shape[-1]
    model = Negative(channels=channels)
    assert run([path], out, model, scale=scale, stddev=True, num_draws=2) == (1, 0, 0)
    assert {p.name for p in out.iterdir()} - {record.NAME} == {
        *("picture.tif", "picture_stddev.tif", "picture_draw1.tif", "picture_draw2.tif")
    }
    before = reading.read(path)
    used = scale or Scale.of(pages.dtype)
    expected = (used.low + used.high) - before.pages.astype(float)
    for result in ("picture.tif", "picture_draw1.tif"):
        found = reading.read(out / result)
        rtol = {"float16": 2e-3, "uint32": 2e-7}.get(str(pages.dtype), 3e-7)
        atol = rtol * (used.high - used.low) * (pages.dtype.kind == "f" or name == "grey, 32 bits")
        np.testing.assert_allclose(found.pages, expected, rtol=0, atol=4 * atol)
        assert found.header == before.header and found.form == before.form
        np.testing.assert_array_equal(found.alpha, before.alpha)
    found = tifffile.imread(out / "picture_stddev.tif")
    np.testing.assert_allclose(found, 0.1 * (used.high - used.low), rtol=1e-6)
    assert found.dtype == np.float32 and found.size == pages.size


def test_other_formats(tmp_path):
    (tmp_path / "in").mkdir()
    for name, suffix in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.jpg", "JPEG"), ("d.gif", "GIF")):
        smooth = np.add.outer(np.arange(20), np.arange(30))[..., None].repeat(3, -1) * 5
        (tmp_path / "in" / name).write_bytes(saved(smooth.astype(np.uint8), suffix))
    np.save(tmp_path / "in" / "e.npy", some("u2", 5, 6, 3))
    (tmp_path / "in" / "notes.txt").touch()
    assert run([tmp_path / "in"], tmp_path / "out", Negative(channels=3)) == (5, 0, 0)
    for path in (tmp_path / "out").iterdir():
        if path.name == record.NAME:
            continue
        found, before = reading.read(path), reading.read(tmp_path / "in" / path.name)
        white = np.iinfo(found.pages.dtype).max
        tolerance = 3 if path.suffix == ".jpg" else 0
        assert np.abs(white - found.pages.astype(int) - before.pages).max() <= tolerance
        assert found.header == before.header


@pytest.mark.parametrize("size", [(1, 1), (3, 517), (37, 53), (65, 63), (64, 64)])
def test_tiled_equals_untiled(size, tmp_path):
    path = tmp_path / "picture.npy"
    np.save(path, some("f4", 2, *size, 1))
    model = StandIn()
    least = tiles.smallest(3, 4)
    for tile in (least, 63, 64, 65, None):
        assert run([path], tmp_path / str(tile), model, tile=tile, seed=7, stddev=True) == (1, 0, 0)
    expected = np.load(tmp_path / "None" / "picture.npy")
    pages = np.load(path)
    untiled = np.concatenate(
        [
            model.denoise(tiles.pad(page, (-(-size[0] // 4) * 4, -(-size[1] // 4) * 4))[None],
                          num_samples=16, seed=7)[0][:, : size[0], : size[1]]
            for page in pages
        ]
    )  # fmt: skip
    np.testing.assert_allclose(expected, untiled, rtol=0, atol=1e-6)
    for tile in (least, 63, 64, 65):
        found = np.load(tmp_path / str(tile) / "picture.npy")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_model_of_one_channel_takes_each_alone(tmp_path, capsys):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", some("f4", 20, 30, 3))
    sources = [tmp_path / "a.npy", tmp_path / "b.npy"]
    assert run(sources, tmp_path / "out", StandIn(), num_draws=2) == (2, 0, 0)
    error = capsys.readouterr().err
    assert error == "warning: the model knows one channel: each of the 3 is denoised alone\n"
    for channel in range(3):
        alone = tmp_path / "alone.npy"
        np.save(alone, np.load(tmp_path / "a.npy")[..., channel])
        run([alone], tmp_path / "out", StandIn(), num_draws=2)
        for name in ("", "_draw2"):
            np.testing.assert_array_equal(
                np.load(tmp_path / "out" / f"a{name}.npy")[..., channel],
                np.load(tmp_path / "out" / f"alone{name}.npy"),
            )


def test_values_that_are_not_finite_stay_and_are_named(tmp_path, capsys):
    path, out = tmp_path / "picture.tif", tmp_path / "out"
    array = np.full((20, 30), 0.5, np.float32)
    holes = [(0, 0), (5, 6), (5, 7), (19, 29)]
    for number, hole in enumerate(holes):
        array[hole] = [np.nan, np.inf][number % 2]
    tifffile.imwrite(path, array)
    assert run([path], out, StandIn(), stddev=True) == (1, 0, 0)
    assert f"{path} has 4 values of NaN or infinity: they stay" in capsys.readouterr().err
    found = tifffile.imread(out / "picture.tif")
    is_seen = np.isfinite(array)
    np.testing.assert_array_equal(found[~is_seen], array[~is_seen])
    # As if the nearest value stood there: the same everywhere.
    tifffile.imwrite(path, np.full_like(array, 0.5))
    run([path], tmp_path / "complete", StandIn())
    complete = tifffile.imread(tmp_path / "complete" / "picture.tif")
    np.testing.assert_array_equal(found[is_seen], complete[is_seen])
    assert np.isnan(tifffile.imread(out / "picture_stddev.tif")).sum() == 4
    tifffile.imwrite(path, np.full((2, 9, 9), np.nan, np.float32), photometric="minisblack")
    assert run([path], out, StandIn()) == (0, 0, 1)
    assert "must have finite values. Received: a page of NaN" in capsys.readouterr().err


def test_the_range_of_the_run_is_the_scale(tmp_path):
    path = tmp_path / "picture.npy"
    np.save(path, np.array([[0, 100, 2000, 4095]], np.uint16))
    run([path], tmp_path / "out", Negative(), scale=Scale(0, 4095))
    np.testing.assert_array_equal(
        np.load(tmp_path / "out" / "picture.npy"), [[4095, 3995, 2095, 0]]
    )


# ---- which files ----


def test_files_folders_and_patterns(tmp_path):
    for name in ("a.png", "sub/b.tif", "sub/deep/c.PNG", ".hidden.png", "notes.txt", "odd[1].png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    out = tmp_path / "out"

    def targets(*texts):
        works = inputs.collect([str(tmp_path / text) for text in texts], out, Settings())
        return [str(work.target.relative_to(out)) for work in works]

    assert targets("in") == ["a.png", "odd[1].png", "sub/b.tif", "sub/deep/c.PNG"]
    assert targets("in/sub/b.tif", "in/notes.txt") == ["b.tif", "notes.txt"]
    assert targets("in/odd[1].png") == ["odd[1].png"]
    assert targets("in/*.png") == ["a.png", "odd[1].png"]
    assert targets("in/**/*.[tP][iN]*") == ["sub/b.tif", "sub/deep/c.PNG"]
    assert targets("in/*/b.tif", "in/sub") == ["sub/b.tif", "deep/c.PNG"]  # each once
    for text in ("nothing.png", "in/*.bmp", "out*"):
        with pytest.raises(ValueError, match=r"INPUT must be .*, which names no picture"):
            targets("in", text)


def test_results_never_replace_inputs_or_each_other(tmp_path):
    arrays = {name: grey(tmp_path / "in" / name, 9, 9) for name in ("a.png", "a_draw1.png")}
    folder = tmp_path / "in"
    for sources, out in (
        ([folder], folder),
        ([folder / "a.png"], folder),
        ([str(folder / "*.png")], folder / "." / "sub" / ".."),
    ):
        with pytest.raises(ValueError, match=r"^`out` must not be where inputs are.*would replace"):
            run(sources, out, Negative())
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ValueError, match=r"^`out` must not be where inputs are"):
        run([folder], tmp_path / "link", Negative())
    with pytest.raises(ValueError, match=r"a.png and .*a_draw1.png, both with .*a_draw1.png"):
        run([folder], tmp_path / "out", Negative(), num_draws=1)
    grey(tmp_path / "other" / "a.png", 9, 9)
    with pytest.raises(ValueError, match="name of its own"):
        run([folder, tmp_path / "other" / "a.png"], tmp_path / "out", Negative())
    for name, array in arrays.items():
        np.testing.assert_array_equal(PIL.Image.open(folder / name), array)
    with pytest.raises(ValueError, match=r"`out` must be a folder. Received: .*, a file"):
        run([folder], folder / "a.png", Negative())


def test_results_in_the_folder_of_inputs_are_no_inputs(tmp_path):
    array = grey(tmp_path / "a.png", 9, 9)
    model = Negative()
    for sources in ([tmp_path], [tmp_path / "**" / "*.png"]):
        assert run(sources, tmp_path / "out", model)[2] == 0
    assert len(model.seen) == 1
    assert run([tmp_path / "out"], tmp_path / "twice", model) == (1, 0, 0)
    np.testing.assert_array_equal(PIL.Image.open(tmp_path / "twice" / "a.png"), array)


# ---- a second run ----


def test_what_is_done_is_skipped(tmp_path):
    for number in range(3):
        grey(tmp_path / "in" / f"{number}.png", 9, 9)
    out, model = tmp_path / "out", Negative()

    def again(**options):
        before = len(model.seen)
        outcome = run([tmp_path / "in"], out, model, **options)
        assert len(model.seen) - before == outcome[0]
        return outcome

    assert again(stddev=True) == (3, 0, 0)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert again(stddev=True) == (0, 3, 0)
    assert times == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    grey(tmp_path / "in" / "0.png", 9, 9)
    (out / "1_stddev.tif").unlink()
    assert again(stddev=True) == (2, 1, 0)
    (out / "2.png").write_bytes(b"cut")
    assert again(stddev=True) == (1, 2, 0)
    for options in ({"key": "other"}, {"key": "other", "num_draws": 1}):
        assert again(**options) == (3, 0, 0)
        assert again(**options) == (0, 3, 0)
    # A line that was cut when the process was killed.
    lines = (out / record.NAME).read_bytes()
    (out / record.NAME).write_bytes(lines[:-20])
    assert again(key="other", num_draws=1) == (1, 2, 0)
    assert again(key="other", num_draws=1) == (0, 3, 0)
    (out / record.NAME).write_bytes(b'[1]\n{"name": 3}\n\xff\n' + b"\0" * 9)
    assert again(key="other", num_draws=1) == (3, 0, 0)


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
import denoise
from dvae_tf.kinds.image import raster
write = raster.write
count = 0
def write_half(target, picture):
    global count
    count += 1
    write(target, picture)
    if count == 3:
        content = target.read_bytes()
        target.write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
raster.write = write_half
denoise.main(sys.argv[3:])
"""


@pytest.fixture
def digits(tmp_path):
    """Five pictures that the model of version 0.1 takes."""
    for number in range(5):
        grey(tmp_path / "in" / f"{number}.png", 8, 8)
    return tmp_path / "in"


@pytest.mark.slow
def test_a_killed_run_leaves_complete_results_and_goes_on(digits, tmp_path):
    words = [str(RUN), str(digits), "--out"]
    code = [sys.executable, "-c", KILLED, str(ROOT), str(ROOT / "tests")]
    killed = subprocess.run([*code, *words, str(tmp_path / "out")], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left > {"0.png", "1.png", record.NAME} and "2.png" not in left
    assert any(name.startswith(".unfinished") for name in left)
    assert denoise.main([*words, str(tmp_path / "out")]) == 0
    assert denoise.main([*words, str(tmp_path / "complete")]) == 0
    for path in (tmp_path / "complete").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(os.listdir(tmp_path / "out")) == len(os.listdir(tmp_path / "complete"))


# ---- what goes wrong ----


def test_damaged_files_are_named_and_the_others_done(tmp_path, capsys):
    for name in ("a.png", "b.png", "c.png"):
        grey(tmp_path / "in" / name, 40, 40)
    content = (tmp_path / "in" / "a.png").read_bytes()
    (tmp_path / "in" / "a.png").write_bytes(content[: len(content) // 2])  # of an intact header
    (tmp_path / "in" / "b\n.png").write_bytes(b"")
    np.save(tmp_path / "in" / "d.npy", some("i2", 9, 9))
    assert run([tmp_path / "in"], tmp_path / "out", Negative()) == (2, 0, 3)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["b.png", "c.png"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("/in/")[1][:6] for line in lines] == ["a.png ", "b .png", "d.npy "]
    assert "truncated" in lines[0] and "Name the values of black and white" in lines[2]
    assert all(line.startswith("x: error: /") for line in lines)


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (Negative(size=(8, 8)), (8, 9), "must be 8 x 8 pixels.*Received: 8 x 9. Resize it"),
        (Negative(channels=3), (8, 8), "must have 3 channels.*Received: 1. Convert it to RGB"),
        (Negative(channels=2), (8, 8, 3), "must have 2 channels.*Received: 3. Give it 2"),
    ],
)
def test_pictures_that_the_model_cannot_take(model, shape, words, tmp_path, capsys):
    np.save(tmp_path / "a.npy", some("u1", *shape))
    assert run([tmp_path / "a.npy"], tmp_path / "out", model) == (0, 0, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"x: error: {tmp_path}/a.npy {words}", line)
    assert not model.seen


def test_too_little_memory_is_named(tmp_path, capsys, monkeypatch):
    grey(tmp_path / "a.png", 9, 9)

    def fail(self, noisy, **_):
        raise MemoryError

    monkeypatch.setattr(Negative, "denoise", fail)
    assert run([tmp_path / "a.png"], tmp_path / "out", Negative()) == (0, 0, 1)
    assert "a.png needs more memory than there is. Choose smaller tiles" in capsys.readouterr().err


def test_tiles(tmp_path):
    with pytest.raises(
        ValueError, match=r"^`tile` must not be given for a model of one size, 8 x 8"
    ):
        Denoiser(Negative(size=(8, 8)), Settings(), tile=64)
    with pytest.raises(
        ValueError, match=r"^`tile` must be at least 12 for this model. Received: 11"
    ):
        Denoiser(Negative(), Settings(), tile=11)


def test_the_side_of_tiles_comes_from_the_memory(monkeypatch):
    def side(growth, available, largest=10**8):
        monkeypatch.setattr(memory, "growth", lambda function: (function(), growth)[1])
        monkeypatch.setattr(memory, "available", lambda: available)
        model = Negative()
        chosen = Denoiser(model, Settings())
        chosen.prepare(largest)
        chosen.prepare(largest)
        assert len(model.seen) == (2 if largest > 256**2 else 0)
        return chosen._tile

    assert side(256**2 * 4000, 2 * 4000 * 300**2) == 300
    assert side(256**2 * 4000, 2**40) == 516  # 1 GiB at most
    assert side(0, 2**40) == 1024
    assert side(256**2 * 10**6, 0) == 12
    assert side(None, 2 * 2**16 * 40**2) == 40
    assert side(0, 0, largest=256**2) == 256


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says")
def test_growth_of_memory():
    size = 100 * 2**20
    assert memory.growth(lambda: np.ones(size, np.uint8).sum()) == pytest.approx(size, rel=0.2)
    assert memory.available() > 2**20


# ---- progress ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()])
def test_progress(out):
    seconds = [0.0]
    shown = progress.Progress(4, 1100, out=out, clock=lambda: seconds[0])
    shown.begin("skipped")
    shown.skip(100)
    shown.begin("a\x1b[2J.png")
    for _ in range(10):
        seconds[0] += 4
        shown.add(25)
    shown.end()
    shown.say("b is damaged")
    seconds[0] += 40
    shown.add(700)
    shown.end()  # is told already
    shown.clear()
    text = out.getvalue()
    assert "\x1b" not in text and "a\\x1b[2J.png: 25 %, 2 min 0 s left" in text
    if out.isatty():
        assert "\n" not in text.split("b is damaged")[0]
        assert text.count("\r") > 10 and "[=====               ]" in text
        # Every line covers the one before.
        lines = [s for s in text.split("b is damaged")[0].split("\r") if s.strip()]
        assert all(len(b) >= len(a.rstrip()) for a, b in itertools.pairwise(lines))
    else:
        assert text.splitlines() == [
            "2/4 a\\x1b[2J.png: 20 %, 2 min 8 s left",
            "2/4 a\\x1b[2J.png: 25 %, 2 min 0 s left",
            "b is damaged",
            "2/4 a\\x1b[2J.png: 95 %, 4 s left",
        ]


def test_durations():
    found = [progress.in_words(seconds) for seconds in (0.4, 59.4, 59.6, 200, 7500)]
    assert found == ["0 s", "59 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]


# ---- the command ----


def test_a_run_of_version_0_1(digits, tmp_path, capsys):
    grey(digits / "6.png", 9, 8)
    words = [str(RUN), str(digits), "--out", str(tmp_path / "out"), "--stddev", "--samples", "5"]
    assert denoise.main([*words, "--seed", "3"]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        f"denoise.py: error: {digits}/6.png must be 8 x 8 pixels, as the model's images were. "
        "Received: 9 x 8. Resize it, or train a network of any size.\n"
    )
    *lines, last = captured.out.splitlines()
    assert last == f"pictures: 5 denoised into {tmp_path / 'out'}, 1 failed"
    assert len(lines) == 5 and all(line.endswith(" left") for line in lines)
    assert captured.out.replace("\n", "").isprintable()
    model = RunDirectory(RUN).load_model()
    for number in range(5):
        noisy = np.asarray(PIL.Image.open(digits / f"{number}.png"))[None, ..., None] / 255
        mean, stddev = model.denoise(noisy.astype(np.float32), num_samples=5, seed=3)
        with PIL.Image.open(tmp_path / "out" / f"{number}.png") as found:
            np.testing.assert_array_equal(found, np.round(255 * mean[0, ..., 0]))
        found = tifffile.imread(tmp_path / "out" / f"{number}_stddev.tif")
        np.testing.assert_allclose(found, 255 * stddev[0, ..., 0], rtol=1e-5)
    # Another seed is another result, and the same one is done.
    assert denoise.main([*words, "--seed", "3"]) == 1
    assert "5 done before, 1 failed" in capsys.readouterr().out
    assert denoise.main([*words, "--seed", "4"]) == 1
    assert "5 denoised" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "RUN_DIR"),
        ([RUN], "--out"),
        ([RUN, "--out", "out"], "INPUT must be given"),
        ([RUN, "in", "--out", "in"], "--out must not be where inputs are"),
        ([RUN, "no", "--out", "out"], "INPUT must be a file, a folder or a pattern. Received: no"),
        ([RUN, "in", "--out", "in/0.png"], "--out must be a folder"),
        (["in", "in", "--out", "out"], "must be a run directory"),
        (
            [RUN, "in", "--out", "out", "--samples", "0"],
            "--samples must be an integer of at least 1",
        ),
        ([RUN, "in", "--out", "out", "--samples", "1.5"], "'1.5' is not a whole number"),
        ([RUN, "in", "--out", "out", "--draws", "-1"], "--draws must be an integer of at least 0"),
        ([RUN, "in", "--out", "out", "--tile", "64"], "--tile must not be given"),
        ([RUN, "in", "--out", "out", "--what"], "--what"),
    ],
)
def test_errors_of_users(words, message, digits, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert denoise.main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("denoise.py: error: ") and message in line
    assert not captured.out and not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_command(digits, tmp_path, capsys, monkeypatch):
    def full(path, picture):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write", full)
    assert denoise.main([str(RUN), str(digits), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("denoise.py: error: The disk must have room.")


def test_the_scale_and_the_kind_of_the_run(digits, tmp_path, capsys, monkeypatch):
    model = Negative()
    config = SimpleNamespace(range="0,510")
    monkeypatch.setattr(RunDirectory, "read_config", lambda self: (config, {}))
    monkeypatch.setattr(RunDirectory, "load_model", lambda self: model)
    words = [str(RUN), str(digits), "--out", str(tmp_path / "out")]
    assert denoise.main(words) == 0
    with PIL.Image.open(tmp_path / "out" / "0.png") as found:  # 510 - x is cut at 255
        np.testing.assert_array_equal(found, np.full((8, 8), 255))
    config.range = "0,255"  # another key: done again
    assert denoise.main(words) == 0
    assert "5 denoised" in capsys.readouterr().out
    model.kind = SimpleNamespace(name="table", noun="row")
    assert denoise.main(words) == 2
    assert "RUN_DIR must be a run on images" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(digits, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write", interrupted)
    assert denoise.main([str(RUN), str(digits), "--out", str(tmp_path / "out")]) == 130
    assert "stopped: the same command goes on" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == []


def test_seeds_and_samples_reach_the_model_and_are_no_longer_done(tmp_path):
    path = tmp_path / "picture.npy"
    np.save(path, some("f4", 9, 9))
    results = []
    for settings in ({}, {"seed": 1}, {"num_samples": 3}):
        run([path], tmp_path / "out", StandIn(), **settings)
        results.append(np.load(tmp_path / "out" / "picture.npy"))
    assert len({result.tobytes() for result in results}) == 3
    assert denoiser.Settings.num_samples == 16
