"""The walker against signatures that do what a served one must not."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dvae_tf.serving import purity


class Module(tf.Module):
    def __init__(self):
        self.count = tf.Variable(1.0)
        self.generator = tf.random.Generator.from_seed(1)


def stateful_random(module, x):
    return x + tf.random.normal([])


def generator(module, x):
    return x + module.generator.normal([])


def random_in_a_loop(module, x):
    return tf.map_fn(lambda row: row + tf.random.uniform([]), x)


def random_in_a_branch(module, x):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: x * tf.random.uniform([]))


def random_in_a_case(module, x):
    branches = [lambda: x, lambda: -x, lambda: x * tf.random.uniform([])]
    return tf.switch_case(tf.size(x), branches)


def assigns(module, x):
    module.count.assign_add(1.0)
    return x


def assigns_in_a_nested_function(module, x):
    @tf.function
    def inner(x):
        return x + module.count.assign(tf.reduce_sum(x))

    return tf.map_fn(inner, x)


def calls_python(module, x):
    return tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), [None])


def calls_python_without_state(module, x):
    y = tf.numpy_function(lambda v: v, [x], tf.float32, stateful=False)
    return tf.ensure_shape(y, [None])


def compiled(module, x):
    return tf.function(lambda x: x * 2.0, jit_compile=True)(x)


def compiled_in_a_branch(module, x):
    inner = tf.function(lambda x: x * 2.0, jit_compile=True)
    return tf.cond(tf.reduce_sum(x) > 0, lambda: inner(x), lambda: x)


def pure(module, x):
    noise = tf.map_fn(
        lambda v: tf.random.stateless_normal([], tf.stack([1, tf.cast(v, tf.int32)])), x
    )
    tf.debugging.assert_less(x, 1e9)
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x * module.count, lambda: x + noise)


def check(function, path) -> dict[str, list[str]]:
    """Save signatures `f`, of this function, and `other`, which is pure; return what is found."""
    module = Module()
    spec = tf.TensorSpec([None], tf.float32, name="x")
    signatures = {
        "f": tf.function(lambda x: {"y": function(module, x)}).get_concrete_function(spec),
        "other": tf.function(lambda x: {"y": x * module.count}).get_concrete_function(spec),
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    found = purity.impurities((path / "saved_model.pb").read_bytes())
    return {name: found[name] for name in signatures}


@pytest.mark.parametrize(
    ("function", "op", "reason"),
    [
        (stateful_random, "RandomStandardNormal", "keeps a state"),
        (generator, "RngReadAndSkip", "keeps a state"),
        (random_in_a_loop, "RandomUniform", "keeps a state"),
        (random_in_a_branch, "RandomUniform", "keeps a state"),
        (random_in_a_case, "RandomUniform", "keeps a state"),
        (assigns, "AssignAddVariableOp", "assigns"),
        (assigns_in_a_nested_function, "AssignVariableOp", "assigns"),
        (calls_python, "EagerPyFunc", "calls Python"),
        (calls_python_without_state, "PyFuncStateless", "calls Python"),
        (compiled, "PartitionedCall", "XLA must compile"),
        (compiled_in_a_branch, "PartitionedCall", "XLA must compile"),
    ],
)
def test_finds_what_is_not_pure(function, op, reason, tmp_path):
    found = check(function, tmp_path)
    assert any(op in line and reason in line for line in found["f"]), found["f"]
    assert found["other"] == []


def test_passes_what_is_pure(tmp_path):
    assert check(pure, tmp_path) == {"f": [], "other": []}


def saved_pure(path) -> saved_model_pb2.SavedModel:
    check(pure, path)
    message = saved_model_pb2.SavedModel()
    message.ParseFromString((path / "saved_model.pb").read_bytes())
    return message


def test_follows_control_inputs(tmp_path):
    """An op that gives a signature nothing, and has to run before it."""
    message = saved_pure(tmp_path)
    (graph,) = message.meta_graphs
    (output,) = graph.signature_def["f"].outputs.values()
    (node,) = (n for n in graph.graph_def.node if n.name == output.name.split(":")[0])
    graph.graph_def.node.add(name="added", op="RandomUniform")
    found = purity.impurities(message.SerializeToString())
    assert (found["f"], found["other"]) == ([], [])
    node.input.append("^added")
    found = purity.impurities(message.SerializeToString())
    assert found["f"] == ["RandomUniform (in the graph): keeps a state"]
    assert found["other"] == []


def altered(path, change) -> list[str]:
    """Return what is found in the pure signature once its first nested function is changed."""
    message = saved_pure(path)
    library = message.meta_graphs[0].graph_def.library
    change(next(f for f in library.function if "cond_true" in f.signature.name))
    return purity.impurities(message.SerializeToString())["f"]


def test_finds_what_belongs_to_xla_or_to_nobody(tmp_path):
    def add(op):
        return lambda function: function.node_def.add(name="added", op=op)

    assert any(
        "XlaDot (" in line and "belongs to XLA" in line for line in altered(tmp_path, add("XlaDot"))
    )
    (line,) = altered(tmp_path, add("SomebodysOp"))
    assert "is not one of TensorFlow's own" in line


def test_finds_calls_of_what_is_not_there(tmp_path):
    def call(function):
        node = function.node_def.add(name="added", op="PartitionedCall")
        node.attr["f"].func.name = "gone"

    (line,) = altered(tmp_path, call)
    assert "calls gone, which is not in the file" in line


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, np.random.default_rng(0).bytes(100)])
def test_refuses_what_is_no_saved_model(content):
    with pytest.raises(ValueError, match=r"must (be a saved_model.pb|hold one graph)"):
        purity.impurities(content)
