"""TensorFlow's C API through ctypes: the loader and the session that TensorFlow Serving uses."""

import ctypes
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

_NUMPY = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
}
_STRING_SIZE = 24  # sizeof(TF_TString)


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ImportError("TensorFlow must be installed: pip install tensorflow")
    # Not with RTLD_GLOBAL: TensorFlow's Python modules crash if they are imported after that.
    library = ctypes.CDLL(str(Path(spec.origin).with_name("libtensorflow_cc.so.2")))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, result in (
        ("TF_NewStatus", pointer),
        ("TF_NewGraph", pointer),
        ("TF_NewSessionOptions", pointer),
        ("TF_NewBuffer", pointer),
        ("TF_AllocateTensor", pointer),
        ("TF_TensorData", pointer),
        ("TF_GraphOperationByName", pointer),
        ("TF_LoadSessionFromSavedModel", pointer),
        ("TF_StringGetDataPointer", pointer),
        ("TF_StringGetSize", size),
        ("TF_TensorByteSize", size),
        ("TF_Dim", ctypes.c_int64),
        ("TF_Message", ctypes.c_char_p),
        ("TF_GetCode", ctypes.c_int),
        ("TF_NumDims", ctypes.c_int),
        ("TF_TensorType", ctypes.c_int),
    ):
        getattr(library, name).restype = result
    return library


class Session:
    """A SavedModel, loaded as TensorFlow Serving loads it: with XLA switched off.

    Args:
        version_dir: directory with a saved_model.pb.

    Raises:
        ImportError: if TensorFlow is not installed.
        RuntimeError: if the SavedModel cannot be loaded, with TensorFlow's message.
    """

    def __init__(self, version_dir: str | Path):
        tf = self._tf = _library()
        tf._ZN10tensorflow21DisableXlaCompilationEv()
        self._graph = ctypes.c_void_p(tf.TF_NewGraph())
        self._status = ctypes.c_void_p(tf.TF_NewStatus())
        self._ends: dict[str, tuple[ctypes.Array, ctypes.Array]] = {}
        options = ctypes.c_void_p(tf.TF_NewSessionOptions())
        buffer = ctypes.c_void_p(tf.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            tf.TF_LoadSessionFromSavedModel(
                options,
                None,
                str(version_dir).encode(),
                tags,
                1,
                self._graph,
                buffer,
                self._status,
            )
        )
        tf.TF_DeleteSessionOptions(options)
        self._check(self._status)
        content = ctypes.cast(buffer, ctypes.POINTER(_Buffer)).contents
        meta_graph = meta_graph_pb2.MetaGraphDef.FromString(
            ctypes.string_at(content.data, content.length)
        )
        tf.TF_DeleteBuffer(buffer)
        self.signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__")  # __saved_model_init_op
        }

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature. Several threads may do so at the same time.

        Args:
            signature: name of the signature.
            inputs: arrays by name.

        Returns:
            the outputs, arrays by name.

        Raises:
            ValueError: if the signature, the names of the inputs or a dtype is unknown.
            RuntimeError: if TensorFlow refuses the request, with its message.
        """
        if signature not in self.signatures:
            raise ValueError(f"`signature` must be one of {sorted(self.signatures)}: {signature!r}")
        definition = self.signatures[signature]
        if set(inputs) != set(definition.inputs):
            raise ValueError(f"inputs must be {sorted(definition.inputs)}: {sorted(inputs)}")
        tf = self._tf
        if signature not in self._ends:
            self._ends[signature] = (
                self._outputs(definition.inputs),
                self._outputs(definition.outputs),
            )
        feeds, fetches = self._ends[signature]
        given = (ctypes.c_void_p * len(inputs))(*(self._tensor(inputs[k]) for k in sorted(inputs)))
        names = sorted(definition.outputs)
        returned = (ctypes.c_void_p * len(names))()
        status = ctypes.c_void_p(tf.TF_NewStatus())
        tf.TF_SessionRun(
            self._session,
            None,
            feeds,
            given,
            len(inputs),
            fetches,
            returned,
            len(names),
            None,
            0,
            None,
            status,
        )
        for tensor in given:
            tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        try:
            self._check(status)
        finally:
            tf.TF_DeleteStatus(status)
        result = {}
        for name, tensor in zip(names, returned, strict=True):
            result[name] = self._array(ctypes.c_void_p(tensor))
            tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        return result

    def close(self) -> None:
        """Free the session. No method may be called afterwards."""
        self._tf.TF_DeleteSession(self._session, self._status)
        self._tf.TF_DeleteGraph(self._graph)
        self._tf.TF_DeleteStatus(self._status)

    def _check(self, status) -> None:
        if self._tf.TF_GetCode(status) != 0:
            raise RuntimeError(self._tf.TF_Message(status).decode(errors="replace"))

    def _outputs(self, infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> ctypes.Array:
        """Return the places of tensors in the graph, in the order of their names."""
        places = []
        for key in sorted(infos):
            name, _, index = infos[key].name.partition(":")
            operation = self._tf.TF_GraphOperationByName(self._graph, name.encode())
            places.append(_Output(operation, int(index or 0)))
        return (_Output * len(places))(*places)

    def _tensor(self, array: np.ndarray) -> int:
        """Return a new TF_Tensor with the content of an array."""
        tf = self._tf
        array = np.asarray(array, order="C")
        dims = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        if array.dtype.kind in "SO":
            size = array.size * _STRING_SIZE
            tensor = tf.TF_AllocateTensor(
                types_pb2.DT_STRING, dims, array.ndim, ctypes.c_size_t(size)
            )
            data = tf.TF_TensorData(ctypes.c_void_p(tensor)) or 0
            for index, content in enumerate(array.ravel()):
                place = ctypes.c_void_p(data + index * _STRING_SIZE)
                tf.TF_StringInit(place)
                tf.TF_StringCopy(place, bytes(content), ctypes.c_size_t(len(content)))
            return tensor
        kind = next((kind for kind, dtype in _NUMPY.items() if dtype == array.dtype), None)
        if kind is None:
            raise ValueError(f"No signature takes arrays of type {array.dtype}")
        tensor = tf.TF_AllocateTensor(kind, dims, array.ndim, ctypes.c_size_t(array.nbytes))
        if array.nbytes:
            ctypes.memmove(
                tf.TF_TensorData(ctypes.c_void_p(tensor)), array.ctypes.data, array.nbytes
            )
        return tensor

    def _array(self, tensor) -> np.ndarray:
        """Return the content of a TF_Tensor."""
        tf = self._tf
        shape = [tf.TF_Dim(tensor, axis) for axis in range(tf.TF_NumDims(tensor))]
        kind = tf.TF_TensorType(tensor)
        data = tf.TF_TensorData(tensor)
        if kind == types_pb2.DT_STRING:
            places = (
                ctypes.c_void_p((data or 0) + i * _STRING_SIZE) for i in range(int(np.prod(shape)))
            )
            strings = [
                ctypes.string_at(tf.TF_StringGetDataPointer(p), tf.TF_StringGetSize(p))
                for p in places
            ]
            return np.array(strings, dtype=object).reshape(shape)
        size = tf.TF_TensorByteSize(tensor)
        array = np.empty(shape, _NUMPY[kind])
        if size:
            ctypes.memmove(array.ctypes.data, data, size)
        return array
