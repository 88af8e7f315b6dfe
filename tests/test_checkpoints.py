import hashlib
import io
import json

import keras
import numpy as np
import pytest

import train
from dvae_tf import DVAE, datasets, networks
from dvae_tf.runs import callbacks, checkpoints, defaults
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options


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


STATE = {"epoch": 0, "step_in_epoch": 0, "means": [], "best_bound": None, "history": ""}


def test_a_checkpoint_of_a_run_passes_unchanged():
    arrays = {"current-0000": np.zeros(2), "best-0000": np.ones(2)}
    state = STATE | {"means": [[1.5, 2.0], 0.5], "best_bound": -1.5, "more": 1}
    checkpoint = checkpoints.Checkpoint(3, arrays, state)
    assert callbacks.checked(checkpoint) is checkpoint


@pytest.mark.parametrize(
    ("arrays", "state", "message"),
    [
        ({"odd": np.zeros(2)}, STATE, "an array named 'odd'"),
        ({"current-a-b": np.zeros(2)}, STATE, "an array named 'current-a-b'"),
        ({"third-0000": np.zeros(2)}, STATE, "an array named 'third-0000'"),
        ({"best-0000": np.zeros(2)}, STATE, "best weights that are not those of the current model"),
        ({"current-0000": np.zeros(2), "best-0000": np.zeros(3)}, STATE, "best weights"),
        ({}, [], "a state"),
        ({}, STATE | {"epoch": "1"}, "a state with epoch"),
        ({}, STATE | {"epoch": -1}, "a state with epoch"),
        ({}, STATE | {"means": {"a": 1}}, "a state with means"),
        ({}, {k: v for k, v in STATE.items() if k != "history"}, "a state with history"),
    ],
)
def test_refuses_what_no_run_writes(arrays, state, message):
    with pytest.raises(checkpoints.CheckpointError, match=message):
        callbacks.checked(checkpoints.Checkpoint(1, arrays, state))


def test_a_file_that_is_no_archive_is_damaged_though_its_digest_fits(tmp_path, rng):
    checkpoints.save(tmp_path, make(1, rng))
    (path,) = tmp_path.iterdir()
    content = b"PK\x03\x04 and no more"
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(b"dvae_tf checkpoint 1 sha256 " + digest + b"\n" + content)
    with pytest.raises(checkpoints.CheckpointError, match="all are damaged"):
        load(tmp_path)


def test_resuming_from_odd_names_is_refused_in_one_line(tmp_path, capsys):
    config = defaults.resolve(Options(hidden=(4,), run_dir=str(tmp_path / "run")))
    directory = RunDirectory.create(config, datasets.load("digits"), "noise")
    directory.save_checkpoint(checkpoints.Checkpoint(1, {"odd": np.zeros(2)}, STATE))
    assert train.main(["--resume", str(directory)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must hold a checkpoint of this run. Received: an array named 'odd'" in line


def test_arrays_of_another_type_are_those_of_another_model():
    model = make_model()
    arrays = {name: array.astype("S8") for name, array in checkpoints.capture(model).items()}
    with pytest.raises(checkpoints.CheckpointError, match="are not those of this model"):
        checkpoints.restore(model, arrays)
