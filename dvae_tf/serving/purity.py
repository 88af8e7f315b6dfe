"""A check that the signatures of a SavedModel are pure functions of their inputs and of fixed weights.

A model server calls signatures from many threads, on any replica, without XLA and without Python.
So no op that a signature can reach may draw from a stateful generator, assign, call Python, or need
compiling by XLA.
"""

from collections.abc import Iterable, Iterator

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

# Stateful ops that change nothing: variables and their reads, calls, control flow, checks.
_HARMLESS = frozenset(
    {
        "Assert",
        "Case",
        "If",
        "ReadVariableOp",
        "ResourceGather",
        "StatefulPartitionedCall",
        "VarHandleOp",
        "While",
    }
)


def impurities(saved_model: bytes) -> dict[str, list[str]]:
    """Find the impure ops that each signature can reach.

    An op is impure in any of these cases:

    - It keeps a state and is not known to be harmless: stateful random ops, assignments, Python
      functions, iterators, tables.
    - It belongs to XLA, or XLA must compile it or the function that it calls.
    - It is not one of TensorFlow's own.
    - It calls a function that is not in the file.

    Args:
        saved_model: content of a `saved_model.pb`.

    Returns:
        signature -> sorted list of "op (in FUNCTION): reason"; the list is empty if it is pure.

    Raises:
        ValueError: if the content is not a SavedModel with one graph.
    """
    message = _parse(saved_model)
    graph = message.graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    nodes = {node.name: node for node in graph.node}
    found = {}
    for name, signature in message.signature_def.items():
        outputs = (info.name for info in signature.outputs.values())
        found[name] = sorted(_walk(_upstream(nodes, outputs), functions))
    return found


def _parse(saved_model: bytes):
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(saved_model)
    except Exception as error:  # the type depends on the version of protobuf
        raise ValueError(f"The content must be a saved_model.pb. Received: {error}.") from error
    if len(message.meta_graphs) != 1:
        raise ValueError(
            "A SavedModel must hold one graph. "
            f"Received: {len(message.meta_graphs)}. Write it with tf.saved_model.save."
        )
    return message.meta_graphs[0]


def _upstream(nodes: dict, tensors: Iterable[str]) -> list:
    """Return every node of the outermost graph that the tensors depend on."""
    pending = [_node_name(tensor) for tensor in tensors]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += [_node_name(tensor) for tensor in nodes[name].input]
    return [nodes[name] for name in seen]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _walk(start: list, functions: dict) -> set[str]:
    """Return the impure ops among these nodes and in all functions that they reach."""
    found: set[str] = set()
    seen: set[str] = set()
    pending = [("the graph", start)]
    while pending:
        place, nodes = pending.pop()
        for node in nodes:
            found |= {f"{node.op} (in {place}): {reason}" for reason in _reasons(node)}
            for name in _called(node):
                if name in seen:
                    continue
                seen.add(name)
                if name not in functions:
                    found.add(f"{node.op} (in {place}): calls {name}, which is not in the file")
                    continue
                function = functions[name]
                if _must_compile(function.attr):
                    found.add(f"{node.op} (in {place}): calls {name}, which XLA must compile")
                # All nodes of a function count: side effects are not upstream of its outputs.
                pending.append((name, function.node_def))
    return found


def _called(node) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _must_compile(attributes) -> bool:
    return "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b


def _reasons(node) -> Iterator[str]:
    if node.op.startswith("Xla"):
        yield "belongs to XLA"
    if _must_compile(node.attr):
        yield "must be compiled by XLA"
    # Some of the ops below are declared stateless.
    if "PyFunc" in node.op:
        yield "calls Python"
    if node.op.startswith("Assign"):
        yield "assigns"
    # Ask TensorFlow, because the file's own list of ops omits ops of nested functions.
    definition = op_def_registry.get(node.op)
    if definition is None:
        yield "is not one of TensorFlow's own"
    elif definition.is_stateful and node.op not in _HARMLESS:
        yield "keeps a state"
