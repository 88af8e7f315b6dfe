"""The comparisons of serving/check.py, on a version of two signatures written by hand.

test_serving_loaders.py runs the command on real exports.
"""

import io
import json
import re

import check
import numpy as np
import PIL.Image
import pytest

TOLERANCE = {
    "default": {"relative": 1e-4, "absolute": 1e-5},
    "nats": {"relative": 0.0, "absolute": 0.01},
    "image_bytes": {"relative": 0.0, "absolute": 1.0},
}


def png(value) -> np.ndarray:
    """One PNG of 2 x 2 pixels."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((2, 2), value, np.uint8)).save(file, "PNG")
    return np.array([file.getvalue()])


GOLDEN = {
    "denoise": {
        "denoised": np.array([[0.5, 0.25], [1.0, 0.0]], np.float32),
        "valid": np.array([True, False]),
    },
    "score": {"elbo": np.array([-100.0, -50.0], np.float32)},
    "denoise_png": {"denoised_bytes": png(100)},
}


@pytest.fixture
def version(tmp_path):
    arrays = {f"{name}/input/x": np.zeros(2, np.float32) for name in GOLDEN}
    for name, outputs in GOLDEN.items():
        arrays |= {f"{name}/output/{key}": value for key, value in outputs.items()}
    np.savez(tmp_path / "golden.npz", **arrays)
    content = {"tolerance": TOLERANCE, "signatures": {name: {} for name in GOLDEN}}
    (tmp_path / "signature.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "saved_model.pb").write_bytes(b"")
    return tmp_path


def answering(name, **outputs):
    """A loader that gives the golden outputs, but for these of one signature."""

    def run(signature, inputs):
        np.testing.assert_array_equal(inputs["x"], np.zeros(2))
        return GOLDEN[signature] | (outputs if signature == name else {})

    return run


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("denoise", {}),
        ("denoise", {"denoised": GOLDEN["denoise"]["denoised"] * np.float32(1 + 9e-5)}),
        ("score", {"elbo": GOLDEN["score"]["elbo"] + np.float32(0.009)}),
        ("denoise_png", {"denoised_bytes": png(101)}),
    ],
)
def test_outputs_within_the_tolerance_pass(name, outputs, version):
    assert check.differences(version, answering(name, **outputs)) == []


DENOISED = GOLDEN["denoise"]["denoised"]


@pytest.mark.parametrize(
    ("name", "outputs", "message"),
    [
        ("denoise", {"denoised": DENOISED * np.float32(1 + 2e-4)}, "denoised: differs by up to"),
        ("denoise", {"denoised": DENOISED + np.float32([0, 2e-5])}, "differs by up to 2e-05"),
        ("denoise", {"denoised": np.where(DENOISED == 1, np.nan, DENOISED)}, "up to nan"),
        ("denoise", {"denoised": np.full_like(DENOISED, np.nan)}, "up to nan"),
        ("denoise", {"denoised": np.where(DENOISED == 1, np.inf, DENOISED)}, "up to inf"),
        ("denoise", {"denoised": DENOISED[:1]}, r"denoised: shape \(1, 2\), not \(2, 2\)"),
        ("denoise", {"valid": np.array([True, True])}, "denoise, valid: differs by up to 1"),
        ("denoise", {"more": DENOISED}, r"returns \['denoised', 'more', 'valid'\], not \['den"),
        ("score", {"elbo": np.float32([-100.02, -50])}, "score, elbo: differs by up to 0.02"),
        ("denoise_png", {"denoised_bytes": png(102)}, "denoised_bytes: differs by up to 2"),
    ],
)
def test_other_outputs_are_found(name, outputs, message, version):
    (line,) = check.differences(version, answering(name, **outputs))
    assert line.startswith(name)
    assert re.search(message, line), line


def test_missing_outputs_are_found(version):
    def run(signature, inputs):
        return {k: v for k, v in GOLDEN[signature].items() if k != "valid"}

    assert check.differences(version, run) == [
        "denoise returns ['denoised'], not ['denoised', 'valid']"
    ]


def test_signatures_are_those_of_both_files(version):
    assert check.missing(version, set(GOLDEN)) == []
    lines = check.missing(version, {"denoise", "score"})
    assert [line.split()[0] for line in lines] == ["golden.npz", "signature.json"]
    content = {"tolerance": TOLERANCE, "signatures": {"denoise": {}, "score": {}}}
    (version / "signature.json").write_text(json.dumps(content), encoding="utf-8")
    assert check.missing(version, set(GOLDEN)) == [
        "signature.json lists the signatures ['denoise', 'score'], "
        "not ['denoise', 'denoise_png', 'score']"
    ]


@pytest.mark.parametrize("damage", ["nothing", "outputs", "signatures"])
def test_status_of_the_command(damage, version, monkeypatch, capsys):
    """With another loader: TensorFlow's would switch XLA off in the process of these tests."""

    class Loader:
        def __init__(self, version_dir):
            assert version_dir == version
            self.signatures = [*GOLDEN, *(["more"] if damage == "signatures" else [])]
            change = {"elbo": np.float32([np.nan, -50])} if damage == "outputs" else {}
            self.run = answering("score", **change)

        def close(self):
            pass

    monkeypatch.setattr(check, "Session", Loader)
    assert check.main([str(version)]) == (damage != "nothing")
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == {"nothing": 0, "outputs": 1, "signatures": 2}[damage]
    good = "3 signatures give the golden outputs; there are no warm-up requests\n"
    assert out == (good if damage == "nothing" else "")


@pytest.mark.parametrize("is_refused", [False, True])
def test_warm_up_requests_are_run(is_refused, version, monkeypatch, capsys):
    seen = []

    class Loader:
        signatures = tuple(GOLDEN)

        def __init__(self, version_dir):
            pass

        def run(self, signature, inputs):
            if "warm" in inputs:
                seen.append((signature, inputs["warm"]))
                if is_refused and len(seen) == 2:
                    raise RuntimeError("no such\ninput")
            return GOLDEN[signature]

        def close(self):
            pass

    requests = [("score", {"warm": 1}), ("denoise", {"warm": 8})]
    monkeypatch.setattr(check, "Session", Loader)
    monkeypatch.setattr(check, "warmup_requests", lambda version_dir: iter(requests))
    assert check.main([str(version)]) == is_refused
    assert seen == [("score", 1), ("denoise", 8)]
    out, err = capsys.readouterr()
    assert err == ("no such input\n" if is_refused else "")
    assert ("2 warm-up requests run" in out) != is_refused
