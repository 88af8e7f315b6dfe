import io
import json

import keras
import numpy as np
import pytest

from dvae_tf import DVAE, networks
from dvae_tf.runs import checkpoints


def make(step, rng):
    arrays = {"weights": rng.normal(size=(3, 4)).astype(np.float32), "count": np.array(step)}
    return checkpoints.Checkpoint(step, arrays, {"epoch": step // 10, "history": "epoch\n0\n"})


def load(directory):
    reports = []
    return checkpoints.load_newest(directory, report=reports.append), reports


def test_newest_comes_back_and_three_are_kept(tmp_path, rng):
    assert load(tmp_path / "none") == (None, [])
    saved = [make(step, rng) for step in (5, 20, 100, 1000)]
    for checkpoint in saved:
        checkpoints.save(tmp_path / "kept", checkpoint)
    newest, reports = load(tmp_path / "kept")
    assert reports == []
    assert (newest.step, newest.state) == (1000, saved[-1].state)
    np.testing.assert_array_equal(newest.arrays["weights"], saved[-1].arrays["weights"])
    assert newest.arrays["weights"].dtype == np.float32
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == [f"step-{step:012d}.ckpt" for step in (20, 100, 1000)]


def test_any_cut_and_any_changed_bit_is_seen(tmp_path, rng):
    for step in (1, 2):
        checkpoints.save(tmp_path, make(step, rng))
    path = tmp_path / "step-000000000002.ckpt"
    content = path.read_bytes()
    places = rng.integers(0, 8 * len(content), 60)
    changed = [
        content[: p // 8] + bytes([content[p // 8] ^ 1 << p % 8]) + content[p // 8 + 1 :]
        for p in places
    ]
    for damaged in [*changed, content[:-1], content[:30], b"", content + b"0"]:
        path.write_bytes(damaged)
        newest, (report,) = load(tmp_path)
        assert newest.step == 1
        assert path.name in report
        assert "is passed over" in report
    path.write_bytes(content)
    assert load(tmp_path)[0].step == 2


def test_refuses_when_all_are_damaged(tmp_path, rng):
    for step in (1, 2):
        checkpoints.save(tmp_path, make(step, rng))
        (tmp_path / f"step-{step:012d}.ckpt").write_bytes(b"cut")
    with pytest.raises(checkpoints.CheckpointError, match="all are damaged"):
        load(tmp_path)


def test_holds_no_pickles(tmp_path):
    bad = checkpoints.Checkpoint(1, {"object": np.array([{}], object)}, {})
    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoints.save(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def make_model(hidden=4):
    encoder, decoder = networks.mlp((2, 2, 1), 2, hidden=(hidden,))
    model = DVAE(encoder, decoder)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    return model


def test_a_restored_model_takes_the_same_steps(rng):
    images = rng.random((8, 2, 2, 1)).astype(np.float32)
    first, second = make_model(), make_model()
    first.fit(images, batch_size=4, epochs=2, verbose=0, shuffle=False)
    captured = checkpoints.capture(first)
    checkpoints.restore(second, captured)
    for model in (first, second):
        model.fit(images, batch_size=4, verbose=0, shuffle=False)
    after, again = checkpoints.capture(first), checkpoints.capture(second)
    assert any(not np.array_equal(captured[name], after[name]) for name in after)
    for name, array in after.items():
        np.testing.assert_array_equal(array, again[name])


def test_refuses_the_checkpoint_of_another_model():
    model = make_model()
    before = checkpoints.capture(model)
    with pytest.raises(checkpoints.CheckpointError, match="are not those of this model"):
        checkpoints.restore(model, checkpoints.capture(make_model(hidden=5)))
    after = checkpoints.capture(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_state_is_json(tmp_path, rng):
    with pytest.raises(TypeError):
        checkpoints.save(tmp_path, checkpoints.Checkpoint(1, {}, {"model": object()}))
    assert list(tmp_path.iterdir()) == []
    checkpoints.save(tmp_path, make(30, rng))
    (path,) = tmp_path.iterdir()
    _, _, content = path.read_bytes().partition(b"\n")
    with np.load(io.BytesIO(content)) as stored:
        state = stored["state"].tobytes().decode()
    assert json.loads(state) == {"epoch": 3, "history": "epoch\n0\n"}
