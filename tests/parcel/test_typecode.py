"""TypeCode."""

from __future__ import annotations

import struct

from binderkit.parcel.typecode import ELEMENT_FORMATS, ELEMENT_SIZES, TypeCode


def test_the_numbers_of_openharmony() -> None:
    assert [code.name for code in sorted(TypeCode)] == [
        "INT8_ARRAY", "UINT8_ARRAY", "INT16_ARRAY", "UINT16_ARRAY", "INT32_ARRAY",
        "UINT32_ARRAY", "FLOAT32_ARRAY", "FLOAT64_ARRAY", "BIGINT64_ARRAY", "BIGUINT64_ARRAY",
    ]  # fmt: skip
    assert [int(code) for code in TypeCode] == list(range(10))


def test_sizes_belong_to_formats() -> None:
    assert len(ELEMENT_FORMATS) == len(ELEMENT_SIZES) == len(TypeCode)
    for letter, size in zip(ELEMENT_FORMATS, ELEMENT_SIZES, strict=True):
        assert struct.calcsize("<" + letter) == size
        assert struct.calcsize(letter) == size  # what memoryview.cast uses
