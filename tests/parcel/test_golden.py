"""The data area is OpenHarmony's, byte for byte: vectors made with its own Parcel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from binderkit.parcel import MessageSequence, TypeCode

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "message_sequence.json").read_text())["vectors"]
READS = {"write_no_exception": "read_exception"}


def call_of(op: list[Any]) -> tuple[str, list[Any]]:
    name, *arguments = op
    if name == "write_array_buffer":
        return name, [bytes.fromhex(arguments[0]), TypeCode[arguments[1]]]
    if name == "write_raw_data_buffer":
        return name, [bytes.fromhex(arguments[0]), arguments[1]]
    return name, arguments


def test_the_vectors_cover_every_operation() -> None:
    assert len(VECTORS) == 300
    assert len({op[0] for vector in VECTORS for op in vector["ops"]}) == 22


@pytest.mark.parametrize("chunk", range(10))
def test_written_bytes(chunk: int) -> None:
    for vector in VECTORS[chunk::10]:
        with MessageSequence.create() as sequence:
            for op in vector["ops"]:
                name, arguments = call_of(op)
                getattr(sequence, name)(*arguments)
            assert bytes(sequence).hex() == vector["hex"], vector["ops"]


@pytest.mark.parametrize("chunk", range(10))
@pytest.mark.parametrize("received", [False, True])
def test_read_back(chunk: int, received: bool) -> None:
    for vector in VECTORS[chunk::10]:
        data = bytes.fromhex(vector["hex"])
        sequence = MessageSequence._received(data, None) if received else MessageSequence.from_bytes(data)
        for op in vector["ops"]:
            name, arguments = call_of(op)
            read = getattr(sequence, READS.get(name, name.replace("write_", "read_")))
            if name == "write_array_buffer":
                value = read(arguments[1])
                assert value.tobytes() == arguments[0]
                assert value.readonly
            elif name == "write_raw_data_buffer":
                assert bytes(read(arguments[1])) == arguments[0]
            elif name == "write_no_exception":
                read()
            else:
                value = read()
                assert repr(value) == repr(arguments[0])  # repr tells 0 from False and 0.0 from -0.0
        assert sequence.get_readable_bytes() == 0
