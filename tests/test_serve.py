"""The web server, as a user starts it: in a process of its own, over its socket."""

import base64
import contextlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures
from pathlib import Path

import check
import client
import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from dvae_tf import DVAE, corruptions, networks, serve
from dvae_tf.kinds.kind import AnyKind
from dvae_tf.serving import export
from dvae_tf.serving.models import ModelDirectory

SHAPE = (6, 5, 1)


def small_model(seed: int) -> DVAE:
    keras.utils.set_random_seed(seed)
    encoder, decoder = networks.mlp(SHAPE, 3, hidden=(8,))
    return DVAE(encoder, decoder, corruption=corruptions.SaltPepper(0.2))


@contextlib.contextmanager
def server(directory: Path, *arguments: str):
    """Yield the URL of a server in a process of its own."""
    words = [sys.executable, "-m", "dvae_tf.serve", str(directory), "--port", "0", *arguments]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline()
        yield re.search(r"http://[^ ]*:\d+", line)[0]
        assert process.poll() is None  # it lived through everything
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0  # it has drained


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("an export")
    export.export(small_model(1), directory, version=1)
    return directory


@pytest.fixture(scope="module")
def url(exported):
    with server(exported, "--max-megabytes", "1") as url:
        yield url


def send(url: str, body=None, *, raw: bytes | None = None, method: str | None = None):
    """Return (status, answer) of a request."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def predict(url: str, body, **kwargs):
    return send(f"{url}/v1/models/dvae:predict", body, **kwargs)


def to_json(array: np.ndarray):
    if array.dtype.kind == "S":
        return [{"b64": base64.b64encode(content).decode()} for content in array.tolist()]
    return array.tolist()


def from_json(values) -> np.ndarray:
    if values and isinstance(values[0], dict):
        return np.array([base64.b64decode(value["b64"]) for value in values])
    return np.array(values)


@pytest.mark.parametrize("form", ["rows", "columns", "version"])
def test_gives_the_golden_outputs(form, url, exported):
    def run(signature, inputs):
        body = {"signature_name": signature}
        names = sorted(inputs)
        columns = {name: to_json(inputs[name]) for name in names}
        if form == "columns":
            body["inputs"] = columns
        else:
            rows = zip(*columns.values(), strict=True)
            body["instances"] = [
                dict(zip(names, row, strict=True)) if len(names) > 1 else row[0] for row in rows
            ]
        path = "/versions/1" if form == "version" else ""
        status, answer = send(f"{url}/v1/models/dvae{path}:predict", body)
        assert status == 200, answer
        outputs = list(
            json.loads(described.read_text(encoding="utf-8"))["signatures"][signature]["outputs"]
        )
        if form == "columns":
            result = answer["outputs"]
            result = result if len(outputs) > 1 else {outputs[0]: result}
            return {name: from_json(value) for name, value in result.items()}
        result = answer["predictions"]
        if len(outputs) == 1:
            return {outputs[0]: from_json(result)}
        return {name: from_json([row[name] for row in result]) for name in outputs}

    # One of the golden images holds a NaN, which JSON of this kind can carry.
    described = exported / "1" / "signature.json"
    assert check.differences(exported / "1", run) == []


def test_status_and_metadata(url):
    status, answer = send(f"{url}/v1/models/dvae")
    (version,) = answer["model_version_status"]
    assert status == 200
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    assert send(f"{url}/v1/models/dvae/versions/1") == (200, answer)
    _, answer = send(f"{url}/v1/models/dvae/metadata")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    dims = signatures["denoise"]["inputs"]["image"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", "6", "5", "1"]
    assert signatures["denoise_png"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"


IMAGE = np.full(SHAPE, 0.5).tolist()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"instances": [np.zeros((5, 5, 1)).tolist()]}, "received [1, 5, 5, 1]"),
        ({"instances": [np.zeros((6, 4, 1)).tolist()]}, "received [1, 6, 4, 1]"),
        ({"instances": [np.zeros((6, 5, 3)).tolist()]}, "received [1, 6, 5, 3]"),
        ({"instances": IMAGE}, "received [6, 5, 1]"),
        ({"instances": [[IMAGE]]}, "received [1, 1, 6, 5, 1]"),
        ({"inputs": 0.5}, "received []"),
        ({"instances": [IMAGE, [[0.5]]]}, "must hold numbers"),
        ({"instances": [["a"]]}, "received another type"),
        ({"instances": [None]}, "received another type"),
        ({"instances": 3}, "must be a list of rows"),
        ({"instances": [{"image": IMAGE, "seed": [0, 1]}]}, "inputs must be image in row 0"),
        ({"instances": [{}]}, "received none"),
        ({"instances": [{"picture": IMAGE}]}, "received picture"),
        ({"inputs": {"image": [IMAGE], "seed": [[0, 1]]}}, "inputs must be image"),
        ({"signature_name": "clean", "instances": [IMAGE]}, "signature_name must be one of"),
        ({"signature_name": 3, "instances": [IMAGE]}, "signature_name must be one of"),
        ({"signature_name": "score", "instances": [IMAGE]}, "must be named in row 0"),
        ({"signature_name": "score", "inputs": {"image": [IMAGE]}}, "inputs must be image, seed"),
        (
            {"signature_name": "score", "inputs": {"image": [IMAGE] * 2, "seed": [[0, 1]]}},
            "`seed` must have one row for each image",
        ),
        ({"signature_name": "sample", "instances": [[0, 1, 2]]}, "received [1, 3]"),
        ({"signature_name": "sample", "instances": [[0.5, 1]]}, "whole numbers"),
        ({"signature_name": "sample", "instances": [[0, 2**31]]}, "beyond 32 bits"),
        ({"signature_name": "sample", "instances": [[0, 2**70]]}, "whole numbers"),
        (
            {"signature_name": "denoise_png", "instances": ["nonsense"]},
            "must hold PNG or JPEG files in row 0",
        ),
        ({"signature_name": "denoise_png", "instances": [{"b64": "?"}]}, "b64"),
        ({"signature_name": "denoise_png", "instances": [{"b64": 3}]}, "b64"),
        ({"signature_name": "denoise_png", "instances": [3]}, "received another type"),
        ({"signature_name": "sample", "instances": [[0, -(2**31) - 1]]}, "beyond 32 bits"),
        ({"signature_name": "denoise_png", "instances": ["a", ["b"]]}, "received another type"),
        ({"signature_name": "sample", "instances": [[]]}, "received [1, 0]"),
        ({"instances": [[], []]}, "received [2, 0]"),
        ({"\ud800": 1}, "must not have the keys"),
        ({"instances": [{"\ud800": 1}]}, "inputs must be image"),
        ({}, "either `instances` (rows) or `inputs`"),
        ({"instances": [IMAGE], "inputs": [IMAGE]}, "either `instances` (rows) or `inputs`"),
        ({"instances": [IMAGE], "other": 1}, "must not have the keys other"),
        ([IMAGE], "must be a JSON object, not a list"),
    ],
)
def test_bad_requests_are_told_what_to_change(url, body, message):
    status, answer = predict(url, body)
    assert status == 400
    assert message in answer["error"], answer
    assert "\n" not in answer["error"]
    status, answer = predict(url, {"instances": [IMAGE]})
    assert status == 200


@pytest.mark.parametrize(
    ("path", "raw", "method", "status"),
    [
        ("/v1/models/dvae:predict", b"{", "POST", 400),
        ("/v1/models/dvae:predict", b"[" * 100_000, "POST", 400),
        ("/v1/models/dvae:predict", b"\xff\xfe\xfd", "POST", 400),
        ("/v1/models/dvae:predict", b" " * (2**20 + 1), "POST", 413),
        ("/v1/models/other:predict", b"{}", "POST", 404),
        ("/v1/models/dvae/versions/2:predict", b"{}", "POST", 404),
        ("/v1/models/dvae/labels/stable:predict", b"{}", "POST", 404),
        ("/v1/models/dvae:classify", b"{}", "POST", 404),
        ("/v1/models/other", None, "GET", 404),
        ("/v1/models/dvae", None, "DELETE", 405),
        ("/etc/passwd", None, "GET", 404),
        ("/v1/models/dvae/versions/" + "9" * 5000, None, "GET", 404),
        ("/v1/models/dvae/versions/%D9%A1", None, "GET", 404),
        ("/noise", b"{}", "POST", 400),
    ],
)
def test_other_mistakes(url, path, raw, method, status):
    answered, answer = send(url + path, raw=raw, method=method)
    assert answered == status
    assert set(answer) == {"error"}


def test_an_empty_batch_is_no_mistake(url):
    assert predict(url, {"instances": []}) == (200, {"predictions": []})
    body = {"signature_name": "score", "inputs": {"image": [], "seed": []}}
    status, answer = predict(url, body)
    assert status == 200
    assert answer["outputs"] == {"elbo": [], "kl": [], "reconstruction": [], "valid": []}


def test_too_much_work_is_refused_before_it_is_done(url):
    rows = [[0, i] for i in range(1025)]
    status, answer = predict(url, {"signature_name": "sample", "instances": rows})
    assert (status, answer["error"]) == (
        413,
        "a request must have at most 1024 rows: received 1025",
    )
    # A small file of a very large image.
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "png")
    assert len(content.getvalue()) < 100_000
    body = {"b64": base64.b64encode(content.getvalue()).decode()}
    status, answer = predict(url, {"signature_name": "denoise_png", "instances": [body]})
    assert status == 400
    assert "must hold images of 5 x 6 pixels: received 20000 x 20000 in row 0" in answer["error"]


def test_the_smallest_seed_is_one(url):
    status, _ = predict(url, {"signature_name": "sample", "instances": [[-(2**31), 2**31 - 1]]})
    assert status == 200


@pytest.mark.parametrize(
    ("value", "signatures"),
    [
        (1e38, {"denoise": {}, "encode": {}, "score": {"seed": [0, 1]}}),  # the sum of the image
        (1e30, {"score": {"seed": [0, 1]}}),  # squares of latents, in the KL term
    ],
)
def test_overflow_is_not_valid(value, signatures, url):
    image = np.full((3, *SHAPE), 0.5)
    image[1] = value
    for signature, extra in signatures.items():
        rows = [{"image": x, **extra} for x in image.tolist()]
        status, answer = predict(url, {"signature_name": signature, "instances": rows})
        assert status == 200
        assert [row["valid"] for row in answer["predictions"]] == [True, False, True]
        assert not any(np.any(value) for value in answer["predictions"][1].values())


def test_half_a_body_harms_nobody(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/models/dvae:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert predict(url, {"instances": [IMAGE]})[0] == 200


def test_noise_is_that_of_the_package(url):
    image = np.linspace(0, 1, 30).reshape(SHAPE).astype(np.float32)
    body = {"image": image.tolist(), "noise": "gaussian", "level": 0.3, "seed": 5}
    _, answer = send(f"{url}/noise", body)
    expected = corruptions.Gaussian(0.3, clip=True)(image[None], seed=5)[0]
    np.testing.assert_allclose(answer["image"], expected, atol=1e-6)
    nan = np.full(SHAPE, np.nan).tolist()
    for change in (
        {"noise": "fog"},
        {"level": 25},
        {"level": 10**400},
        {"seed": -1},
        {"seed": "x"},
        {"image": [0]},
        {"image": []},
        {"image": [[]]},
        {"image": nan, "noise": "poisson"},  # its sampler would never end
    ):
        status, answer = send(f"{url}/noise", body | change)
        assert status == 400, (change, answer)


def test_a_thousand_requests_over_eight_threads(url):
    _, expected = predict(url, {"instances": [IMAGE]})

    def once(index):
        return predict(url, {"instances": [IMAGE]})

    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(1000)))
    assert all(answer == (200, expected) for answer in answers)


@pytest.mark.slow
def test_hot_swap_and_roll_back_under_load(exported, tmp_path):
    directory = tmp_path / "versions"
    staged = tmp_path / "staged"
    export.export(small_model(1), directory, version=1)
    export.export(small_model(2), staged, version=2)

    def golden(version_dir):
        content = {name: (given, out) for name, given, out in check.golden(version_dir)}
        inputs, outputs = content["denoise"]
        return inputs["image"][:3], outputs["denoised"][:3]

    image, first = golden(directory / "1")
    _, second = golden(staged / "2")
    assert np.abs(first - second).max() > 1e-3
    seen: list[int] = []
    stop = threading.Event()

    def load(url):
        while not stop.is_set():
            status, answer = predict(url, {"instances": image.tolist()})
            assert status == 200, answer
            values = np.array([row["denoised"] for row in answer["predictions"]])
            matches = [np.allclose(values, v, rtol=1e-4, atol=1e-5) for v in (first, second)]
            assert sum(matches) == 1, "an answer of neither version"
            seen.append(1 + matches.index(True))

    def wait_for(version):
        before = time.monotonic()
        while not seen or set(seen[-50:]) != {version}:
            assert time.monotonic() - before < 60
            time.sleep(0.01)

    with server(directory) as url, futures.ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(load, url) for _ in range(4)]
        try:
            wait_for(1)
            (staged / "2").rename(directory / "2")
            wait_for(2)
            # What cannot be loaded is passed over.
            (directory / "3").mkdir()
            (directory / "3" / "saved_model.pb").write_bytes(b"cut")
            time.sleep(2.5)
            assert set(seen[-10:]) == {2}
            shutil.rmtree(directory / "3")
            (directory / "2").rename(staged / "2")
            wait_for(1)
        finally:
            stop.set()
        for worker in workers:
            worker.result()


def test_a_version_that_was_damaged_is_tried_again_when_it_is_whole(exported, tmp_path):
    directory = tmp_path / "versions"
    shutil.copytree(exported / "1", directory / "1")
    models = ModelDirectory(directory)
    (directory / "2").mkdir()
    shutil.copy(exported / "1" / "saved_model.pb", directory / "2")  # a copy under way
    models.refresh()
    assert models.newest.number == 1
    shutil.copytree(exported / "1", directory / "2", dirs_exist_ok=True)
    models.refresh()
    assert models.newest.number == 2


@pytest.mark.slow
def test_other_kinds_of_data_are_served_without_a_page(tmp_path):
    keras.utils.set_random_seed(1)
    model = DVAE(*networks.mlp((5,), 2, "gaussian", hidden=(8,)), kind=AnyKind())
    export.export(model, tmp_path, version=1)
    vector = [0.1, 0.2, 0.3, 0.4, 0.5]
    with server(tmp_path) as url:
        status, answer = predict(url, {"instances": [vector]})
        assert status == 200
        (row,) = answer["predictions"]
        expected = model(np.array([vector], np.float32))[0]
        np.testing.assert_allclose(row["denoised"], expected, rtol=1e-4, atol=1e-5)
        status, answer = predict(url, {"instances": [vector[:4]]})
        assert status == 400
        assert "`example` must hold numbers in shape ['B', 5]" in answer["error"]
        noise = {"example": vector, "noise": "gaussian", "level": 0.1, "seed": 0}
        for path, body in (("/", None), ("/noise", noise)):
            status, answer = send(url + path, body)
            assert status == 404
            assert "there is no page for data of kind any" in answer["error"]


def test_versions_that_name_no_kind_are_served_by_their_shape(exported, tmp_path):
    """As those of version 0.1."""
    shutil.copytree(exported / "1", tmp_path / "1")
    path = tmp_path / "1" / "signature.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.pop("kind") == "image"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert ModelDirectory(tmp_path).newest.kind.name == "image"


def test_listens_on_loopback_unless_told_otherwise(url):
    assert url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/nowhere"], "EXPORT_DIR must hold a version"),
        (["{tmp}"], "EXPORT_DIR must hold a version"),
        (["{good}", "--port", "70000"], "--port must be from 0 to 65535"),
        (["{good}", "--port", "x"], "'x' is not a whole number"),
        (["{good}", "--port", "{busy}"], "must be free to listen on"),
        (["{good}", "--host", "no.such.host.invalid"], "--host"),
        (["{good}", "--name", "a/b"], "--name must be"),
        (["{good}", "--max-megabytes", "0"], "--max-megabytes must be at least 1"),
        (["{good}", "--max-rows", "0"], "--max-rows must be at least 1"),
        (["{damaged}"], "must be a version that dvae_tf exported"),
        ([], "EXPORT_DIR"),
    ],
)
def test_command_errors_take_one_line(words, message, exported, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    (damaged / "1").mkdir(parents=True)
    (damaged / "1" / "saved_model.pb").write_bytes(b"cut")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        places = {
            "tmp": tmp_path,
            "good": exported,
            "damaged": damaged,
            "busy": busy.getsockname()[1],
        }
        assert serve.main([word.format(**places) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_without_its_extra_it_says_what_to_install(exported, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert serve.main([str(exported)]) == 2
    assert "pip install 'dvae-tf[serving]'" in capsys.readouterr().err


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TensorFlow Serving's gRPC interface, around a SavedModel."""

    def __init__(self, path: Path):
        self._loaded = tf.saved_model.load(str(path))
        self.specs = []

    def Predict(self, request, context):
        self.specs.append(request.model_spec)
        function = self._loaded.signatures[request.model_spec.signature_name]
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        try:
            outputs = function(**inputs)
        except tf.errors.OpError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return answer


@pytest.fixture
def grpc_server(exported):
    servicer = Servicer(exported / "1")
    running = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}", servicer
    running.stop(None).wait()


@pytest.mark.slow
class TestClient:
    @pytest.fixture
    def noisy(self, tmp_path, rng) -> Path:
        path = tmp_path / "noisy image.png"
        Image.fromarray(rng.integers(0, 256, SHAPE[:2]).astype(np.uint8)).save(path)
        return path

    def check(self, noisy, clean):
        pixels = np.asarray(Image.open(noisy), np.float32)[None, ..., None] / 255
        expected = small_model(1)(pixels)[0, ..., 0] * 255
        np.testing.assert_allclose(np.asarray(Image.open(clean)), expected, atol=0.51)

    def test_rest(self, url, noisy, tmp_path):
        clean, before = tmp_path / "clean.png", tmp_path / "before.png"
        before.write_bytes(b"an earlier output")
        clean.hardlink_to(before)  # which shows whether the file is written in place
        assert client.main([str(noisy), "--out", str(clean), "--server", url]) == 0
        self.check(noisy, clean)
        assert before.read_bytes() == b"an earlier output"
        names = {"noisy image.png", "clean.png", "before.png"}
        assert {path.name for path in tmp_path.iterdir()} == names

    def test_grpc(self, grpc_server, noisy, tmp_path):
        address, servicer = grpc_server
        clean = tmp_path / "clean.png"
        words = [str(noisy), "--out", str(clean), "--grpc", "--server", address]
        assert client.main([*words, "--label", "canary", "--model", "mine"]) == 0
        self.check(noisy, clean)
        assert client.main([*words, "--version", "4"]) == 0
        first, second = servicer.specs
        assert (first.name, first.version_label) == ("mine", "canary")
        assert (second.name, second.version.value) == ("dvae", 4)

    def test_errors_take_one_line_and_write_nothing(
        self, url, grpc_server, noisy, tmp_path, capsys
    ):
        address, _ = grpc_server
        wrong = tmp_path / "wrong.png"
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(wrong)
        with socket.socket() as silent, socket.socket() as unused:
            silent.bind(("127.0.0.1", 0))
            silent.listen()  # takes connections, answers nothing
            unused.bind(("127.0.0.1", 0))
            silent_port, unused_port = silent.getsockname()[1], unused.getsockname()[1]
            for words, message in (
                ([noisy, "--server", f"{url}/other"], "there is no /other"),
                ([noisy, "--server", url, "--model", "other"], "answered 404"),
                ([noisy, "--server", url, "--version", "9"], "version 9 is not served"),
                ([wrong, "--server", url], "must hold images of 5 x 6 pixels: received 9 x 9"),
                ([wrong, "--grpc", "--server", address], "INVALID_ARGUMENT"),
                ([noisy, "--server", f"http://127.0.0.1:{unused_port}"], "gave no answer"),
                ([noisy, "--server", f"http://{address}"], "gave no answer"),  # gRPC's port
                ([noisy, "--server", "http://127.0.0.1:abc"], "gave no answer"),
                (
                    [noisy, "--server", f"http://127.0.0.1:{silent_port}", "--timeout", "0.3"],
                    "timed out",
                ),
                (
                    [noisy, "--grpc", "--server", f"127.0.0.1:{silent_port}", "--timeout", "0.3"],
                    "DEADLINE_EXCEEDED",
                ),
                ([noisy, "--server", "nonsense"], "--server must be like http://localhost:8501"),
                ([tmp_path / "none.png", "--server", url], "No such file"),
            ):
                out = tmp_path / "out.png"
                assert client.main([*map(str, words), "--out", str(out)]) == 2
                (line,) = capsys.readouterr().err.splitlines()
                assert message in line
                assert not out.exists()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--timeout", "inf"], "--timeout must be from 0 to 86400"),
            (["--timeout", "nan"], "--timeout must be from 0 to 86400"),
            (["--timeout", "0"], "--timeout must be from 0 to 86400"),
            (["--version", "0"], "--version must be from 1"),
            (["--version", "9" * 20, "--grpc"], "--version must be from 1"),
            (["--version", "1", "--label", "x"], "not allowed with"),
            (["--out", "/"], "--out must name a file"),
            (["--out", "."], "--out must name a file"),
        ],
    )
    def test_its_flags_are_checked_first(self, words, message, noisy, tmp_path, capsys):
        with pytest.raises(SystemExit) as stop:
            client.main([str(noisy), "--out", str(tmp_path / "out.png"), *words])
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line

    def test_an_output_that_cannot_be_written_takes_one_line(self, url, noisy, capsys):
        for out in (noisy / "x.png", noisy.with_name("x" * 300)):
            assert client.main([str(noisy), "--server", url, "--out", str(out)]) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_client_waits_no_longer_than_it_is_told(tmp_path, capsys):
    """The server takes the connection, answers nothing, and resets it after ten seconds."""
    image = tmp_path / "image.png"
    image.write_bytes(b"any bytes")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        reset = threading.Timer(10, silent.close)
        reset.start()
        words = [str(image), "--out", str(tmp_path / "out.png"), "--server", url]
        assert client.main([*words, "--timeout", "0.2"]) == 2
        reset.cancel()
    assert "timed out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [image]


class TestConfiguration:
    """The files for TensorFlow Serving, read with its own message types where those are published."""

    def read(self, name):
        return (ROOT / "serving" / name).read_text(encoding="utf-8")

    def test_models(self):
        from google.protobuf import text_format
        from tensorflow_serving.config import model_server_config_pb2

        config = text_format.Parse(
            self.read("models.config"), model_server_config_pb2.ModelServerConfig()
        )
        (model,) = config.model_config_list.config
        assert (model.name, model.base_path) == ("dvae", "/models/dvae")
        assert set(model.version_labels) == {"stable", "canary"}
        assert model.model_version_policy.latest.num_versions == 2

    def test_batching(self):
        text = self.read("batching.config")
        (maximum,) = map(int, re.findall(r"max_batch_size { value: (\d+) }", text))
        allowed = [int(n) for n in re.findall(r"allowed_batch_sizes: (\d+)", text)]
        assert allowed == sorted(allowed)
        assert allowed[-1] == maximum

    def test_compose_names_the_files_that_are_there(self):
        compose = self.read("compose.yaml")
        named = re.findall(r"/config/([\w.]+)", compose + self.read("README.md"))
        assert {"models.config", "batching.config", "monitoring.config"} <= set(named)
        for name in named:
            assert (ROOT / "serving" / name).exists()
        for port in ("8500", "8501"):
            assert f"127.0.0.1:{port}:{port}" in compose


def test_grey_levels_of_a_png_are_rounded_not_cut():
    """`check` compares PNG files by their pixels, which golden.npz holds encoded."""
    files = []
    for level in (10, 11):
        buffer = io.BytesIO()
        Image.fromarray(np.full((2, 2), level, np.uint8)).save(buffer, "png")
        files.append(buffer.getvalue())
    tolerance = {"image_bytes": {"relative": 0.0, "absolute": 0.5}}
    same = check._difference(np.array(files[:1]), np.array(files[:1]), tolerance, "denoised_bytes")
    other = check._difference(np.array(files[:1]), np.array(files[1:]), tolerance, "denoised_bytes")
    assert same == ""
    assert "differs by up to 1" in other
