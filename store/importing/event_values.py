"""Read numbers and texts from TensorBoard's events, in every encoding that writers use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from store.importing.files import message_types

_VALUES = {
    "half_val": (13, "*int32"),
    "float_val": (5, "*float"),
    "double_val": (6, "*double"),
    "int_val": (7, "*int32"),
    "int64_val": (10, "*int64"),
    "bool_val": (11, "*bool"),
    "uint32_val": (16, "*uint32"),
    "uint64_val": (17, "*uint64"),
}
MESSAGES = message_types(
    "events",
    {
        "Event": {
            "wall_time": (1, "double"),
            "step": (2, "int64"),
            "summary": (5, "Summary"),
            "session_log": (7, "SessionLog"),
        },
        "SessionLog": {"status": (1, "int32")},
        "Summary": {"value": (1, "*Value")},
        "Value": {
            "tag": (1, "bytes"),
            "simple_value": (2, "float"),
            "image": (4, "Anything"),
            "histo": (5, "Anything"),
            "audio": (6, "Anything"),
            "tensor": (8, "Tensor"),
            "metadata": (9, "Metadata"),
        },
        "Anything": {},
        "Tensor": {
            "dtype": (1, "int32"),
            "shape": (2, "Shape"),
            "tensor_content": (4, "bytes"),
            "string_val": (8, "*bytes"),
            **_VALUES,
        },
        "Shape": {"dim": (2, "*Dimension")},
        "Dimension": {"size": (1, "int64")},
        "Metadata": {"plugin_data": (1, "Plugin")},
        "Plugin": {"plugin_name": (1, "bytes"), "content": (2, "bytes")},
        "HParams": {"session_start_info": (3, "Session")},
        "Session": {"hparams": (1, "*Entry")},
        "Entry": {"key": (1, "bytes"), "value": (2, "Setting")},
        "Setting": {"number_value": (2, "double"), "string_value": (3, "bytes"), "bool_value": (4, "bool")},
    },
)
_BFLOAT16 = 14
_TYPES = {
    1: ("float_val", "<f4"),
    2: ("double_val", "<f8"),
    3: ("int_val", "<i4"),
    4: ("int_val", "<u1"),
    5: ("int_val", "<i2"),
    6: ("int_val", "<i1"),
    9: ("int64_val", "<i8"),
    10: ("bool_val", "<b1"),
    _BFLOAT16: ("half_val", "<u2"),
    17: ("int_val", "<u2"),
    19: ("half_val", "<f2"),
    22: ("uint32_val", "<u4"),
    23: ("uint64_val", "<u8"),
}
"""The field with the values of each data type, and the type's size in bytes in `tensor_content`."""


def scalar(value: Any) -> float | None:
    """Return a value as a number, or None if it is not a single number."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    tensor = value.tensor
    size = math.prod(each.size for each in tensor.shape.dim)
    if not value.HasField("tensor") or size != 1:
        return None
    if tensor.dtype not in _TYPES:
        # Without a type, values are floats.
        return float(tensor.float_val[0]) if not tensor.dtype and len(tensor.float_val) == 1 else None
    field, kind = _TYPES[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != np.dtype(kind).itemsize:
            return None
        array = np.frombuffer(tensor.tensor_content, kind)
    else:
        array = _field_values(list(getattr(tensor, field)), field, kind)
    if tensor.dtype == _BFLOAT16:
        array = (array.astype("<u4") << 16).view("<f4")
    return float(array[0]) if len(array) == 1 else None


def _field_values(values: list[Any], field: str, kind: str) -> Any:
    """Return the values of a field. An omitted value is zero; half-precision numbers are stored as bits."""
    if field == "half_val":
        return np.array(values or [0], "<i4").astype("<u2").view(kind)
    return np.array(values or [0])


def text(value: Any) -> bytes:
    """Return the first text in a value."""
    return value.tensor.string_val[0] if value.tensor.string_val else b""


def hyperparameters(value: Any) -> dict[str, Any] | None:
    """Return the hyperparameters logged by `add_hparams`, or None for any other value."""
    plugin = value.metadata.plugin_data
    if plugin.plugin_name != b"hparams" or not plugin.content:
        return None
    try:
        message: Any = MESSAGES["HParams"].FromString(plugin.content)
    except DecodeError:
        return None
    session = message.session_start_info
    if not session.hparams:
        return None
    return {"hparams": {each.key.decode("utf-8", "replace"): _setting(each.value) for each in session.hparams}}


def _setting(value: Any) -> object:
    if value.HasField("number_value"):
        number = float(value.number_value)
        return int(number) if number.is_integer() else number
    if value.HasField("bool_value"):
        return bool(value.bool_value)
    return value.string_value.decode("utf-8", "replace")


def kind_of(value: Any) -> str:
    """Return the kind of a value other than a number, named like TensorBoard's tabs."""
    for field, kind in (("image", "picture"), ("histo", "histogram"), ("audio", "audio")):
        if value.HasField(field):
            return kind
    plugin = value.metadata.plugin_data.plugin_name.decode("utf-8", "replace")
    if plugin and plugin != "scalars":
        return str(plugin)
    return "text" if value.tensor.string_val else "tensor of several numbers"
