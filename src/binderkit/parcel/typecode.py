"""TypeCode: which elements an array buffer holds, and how they travel.

The numbers are those of @ohos.rpc (reference 1.2). INT16 elements travel as
32-bit words; all others travel packed, as OpenHarmony's own Parcel writes them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["ELEMENT_FORMATS", "ELEMENT_SIZES", "TypeCode"]


class TypeCode(IntEnum):
    """Element type of ``MessageSequence.write_array_buffer`` (reference 1.2)."""

    INT8_ARRAY = 0
    UINT8_ARRAY = 1
    INT16_ARRAY = 2
    UINT16_ARRAY = 3
    INT32_ARRAY = 4
    UINT32_ARRAY = 5
    FLOAT32_ARRAY = 6
    FLOAT64_ARRAY = 7
    BIGINT64_ARRAY = 8
    BIGUINT64_ARRAY = 9


ELEMENT_FORMATS: Final = ("b", "B", "h", "H", "i", "I", "f", "d", "q", "Q")
"""struct and memoryview format of one element, by TypeCode."""
ELEMENT_SIZES: Final = (1, 1, 2, 2, 4, 4, 4, 8, 8, 8)
"""Bytes of one element in the caller's buffer, by TypeCode."""
