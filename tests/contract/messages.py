"""Short ways to write the arguments of a test call and to make it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import binderkit as bk

Call = Callable[..., bk.MessageSequence]
"""call(object, code, *values, option=…) -> the reply: one of the faces."""

ONEWAY = bk.MessageOption(bk.MessageOption.TF_ASYNC)


def message(*values: Any) -> bk.MessageSequence:
    """Return a new sequence with ``values``, each written by its type."""
    sequence = bk.MessageSequence()
    put(sequence, *values)
    return sequence


def put(sequence: bk.MessageSequence, *values: Any) -> None:
    """Write values by their type: bool, int (64 bits), float, str, bytes, a remote object, a list of remote objects."""
    for value in values:
        if isinstance(value, bool):
            sequence.write_boolean(value)
        elif isinstance(value, int):
            sequence.write_long(value)
        elif isinstance(value, float):
            sequence.write_double(value)
        elif isinstance(value, str):
            sequence.write_string(value)
        elif isinstance(value, bytes):
            sequence.write_array_buffer(value, bk.TypeCode.UINT8_ARRAY)
        elif isinstance(value, list):
            sequence.write_remote_object_array(value)
        else:
            sequence.write_remote_object(value)


def transact(
    target: bk.IRemoteObject, code: int, *values: Any, option: bk.MessageOption | None = None
) -> bk.MessageSequence:
    """Make a synchronous call; return its reply."""
    reply = bk.MessageSequence()
    with message(*values) as data:
        target.send_request(code, data, reply, option)
    return reply


def tell(target: bk.IRemoteObject, code: int, *values: Any) -> None:
    """Make a one-way call."""
    transact(target, code, *values, option=ONEWAY)


def body(reply: bk.MessageSequence) -> bytes:
    """Return the bytes that ECHO sent back."""
    return bytes(reply.read_array_buffer(bk.TypeCode.UINT8_ARRAY))


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
