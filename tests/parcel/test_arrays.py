"""Arrays and array buffers."""

from __future__ import annotations

import array
import struct
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParamTypeError, ParamValueError, ParcelReadError, ParcelWriteError, TooBigError
from binderkit.parcel import MessageSequence, TypeCode
from binderkit.parcel.typecode import ELEMENT_FORMATS, ELEMENT_SIZES
from tests.parcel.test_scalars import INTEGERS, VALUES

ARRAYS = sorted(set(VALUES) - {"interface_token"})
LARGEST = {"byte": 51_199, "short": 51_199, "char": 51_199, "int": 51_199, "boolean": 51_199, "long": 25_599,
           "float": 25_599, "double": 25_599}  # fmt: skip


@given(st.data(), st.lists(st.sampled_from(ARRAYS), max_size=6))
def test_round_trip(data: st.DataObject, names: list[str]) -> None:
    written = [(name, data.draw(st.lists(VALUES[name], max_size=12))) for name in names]
    sequence = MessageSequence()
    for name, values in written:
        getattr(sequence, f"write_{name}_array")(values)
    for name, values in written:
        assert repr(getattr(sequence, f"read_{name}_array")()) == repr(values)
    sequence.rewind_read(0)
    for name, values in written:
        out: list[Any] = ["old", "elements"]
        assert getattr(sequence, f"read_{name}_array")(out) is out
        assert repr(out) == repr(values)
    assert sequence.get_readable_bytes() == 0


@pytest.mark.parametrize("name", INTEGERS)
def test_elements_do_not_wrap(name: str) -> None:
    sequence = MessageSequence()
    low, high = INTEGERS[name]
    for wrong in (low - 1, high + 1):
        with pytest.raises(ParamValueError, match="element 2 is int"):
            getattr(sequence, f"write_{name}_array")([low, high, wrong])
    for bad in (1.5, "1", None):
        with pytest.raises(ParamTypeError, match="element 1 is"):
            getattr(sequence, f"write_{name}_array")([2, bad])
    for bool_ in (True, False):
        with pytest.raises(ParamTypeError, match="element 1 is a bool"):
            getattr(sequence, f"write_{name}_array")([2, bool_])
    assert len(sequence) == 0


@given(
    st.sampled_from(["byte", "short", "char", "int", "long", "float", "double"]),
    st.lists(st.sampled_from([0, 1, 2, 100]), max_size=60),
    st.none() | st.tuples(st.integers(0, 60), st.booleans()),
)
def test_a_bool_among_zeros_and_ones(name: str, values: list[int], hidden: tuple[int, bool] | None) -> None:
    sequence = MessageSequence()
    write = getattr(sequence, f"write_{name}_array")
    if hidden is None:
        write(values)
        assert getattr(sequence, f"read_{name}_array")() == values
        return
    index = min(hidden[0], len(values))
    with pytest.raises(ParamTypeError, match=f"element {index} is a bool"):
        write([*values[:index], hidden[1], *values[index:]])
    assert len(sequence) == 0


@pytest.mark.parametrize("name", ["float", "double"])
def test_elements_for_doubles(name: str) -> None:
    sequence = MessageSequence()
    getattr(sequence, f"write_{name}_array")([1, numpy.float32(0.5)])
    assert getattr(sequence, f"read_{name}_array")() == [1.0, 0.5]
    for wrong, error in ((True, ParamTypeError), ("1", ParamTypeError), (10**400, ParamValueError)):
        with pytest.raises(error):
            getattr(sequence, f"write_{name}_array")([1.5, wrong])
    assert len(sequence) == 20


def test_only_bools_in_a_boolean_array() -> None:
    sequence = MessageSequence()
    with pytest.raises(ParamTypeError, match="takes bools, got int 1"):
        sequence.write_boolean_array([True, 1])  # type: ignore[list-item]
    assert len(sequence) == 0


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_no_array(name: str) -> None:
    sequence = MessageSequence()
    no_arrays: list[Any] = [5, None, "abc"]
    for wrong in no_arrays:
        with pytest.raises(ParamTypeError, match=f"write_{name}_array takes an array"):
            getattr(sequence, f"write_{name}_array")(wrong)
    getattr(sequence, f"write_{name}_array")([])
    no_lists: list[Any] = [5, (1, 2), numpy.zeros(3)]
    for wrong in no_lists:
        with pytest.raises(ParamTypeError, match="must be a list"):
            getattr(sequence, f"read_{name}_array")(wrong)
    assert sequence.get_read_position() == 0


@pytest.mark.parametrize(
    "values", [(1, 2), range(1, 3), array.array("h", [1, 2]), numpy.array([1, 2]), iter([1, 2]), b"\1\2"]
)
def test_any_iterable_of_integers(values: Any) -> None:
    sequence = MessageSequence()
    sequence.write_int_array(values)
    assert bytes(sequence) == struct.pack("<3i", 2, 1, 2)


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_array(name: str) -> None:
    sequence = MessageSequence()
    element: Any = False if name == "boolean" else 2
    getattr(sequence, f"write_{name}_array")([element] * LARGEST[name])
    sequence.reclaim()
    sequence = MessageSequence()
    sequence.write_int(1)
    with pytest.raises(TooBigError, match=r"2048\d\d bytes"):
        getattr(sequence, f"write_{name}_array")([element] * (LARGEST[name] + 1))
    assert len(sequence) == 4


def test_a_string_array_over_the_limit_leaves_nothing() -> None:
    sequence = MessageSequence()
    sequence.write_int(1)
    with pytest.raises(TooBigError):
        sequence.write_string_array(["x" * 40_000] * 4)
    with pytest.raises(ParamTypeError, match="element 1"):
        sequence.write_string_array(["a", 5])  # type: ignore[list-item]
    with pytest.raises(ParamValueError):
        sequence.write_string_array(["a", "x" * 40_960])
    assert len(sequence) == 4


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("count", [-1, -(2**31), 1, 1000, 2**31 - 1])
def test_counts_that_lie(name: str, count: int) -> None:
    sequence = MessageSequence._received(struct.pack("<i", count), None)
    with pytest.raises(ParcelReadError):
        getattr(sequence, f"read_{name}_array")()
    assert sequence.get_read_position() == 0


@pytest.mark.parametrize(("name", "word"), [("byte", 128), ("short", 40_000), ("char", -1), ("boolean", 2)])
def test_elements_that_are_no_such_values(name: str, word: int) -> None:
    sequence = MessageSequence._received(struct.pack("<3i", 2, 0, word), None)
    with pytest.raises(ParcelReadError, match=f"a {name} array"):
        getattr(sequence, f"read_{name}_array")()
    assert sequence.get_read_position() == 0


@pytest.mark.parametrize("name", ARRAYS)
def test_reclaimed_and_received(name: str) -> None:
    sequence = MessageSequence()
    sequence.reclaim()
    with pytest.raises(ParcelReadError, match="reclaimed"):
        getattr(sequence, f"read_{name}_array")()
    for unwritable in (sequence, MessageSequence._received(b"", None)):
        with pytest.raises(ParcelWriteError):
            getattr(unwritable, f"write_{name}_array")([])


# --- array buffers --------------------------------------------------------------------------------


@given(st.sampled_from(TypeCode), st.data())
def test_array_buffer_round_trip(code: TypeCode, data: st.DataObject) -> None:
    size = ELEMENT_SIZES[code] * data.draw(st.integers(0, 9))
    raw = data.draw(st.binary(min_size=size, max_size=size))
    sequence = MessageSequence()
    sequence.write_array_buffer(raw, code)
    sequence.write_int(77)
    assert len(sequence) % 4 == 0
    for received in (sequence, MessageSequence._received(bytes(sequence), None)):
        view = received.read_array_buffer(code)
        assert view.tobytes() == raw
        assert (view.format, view.readonly) == (ELEMENT_FORMATS[code], True)
        assert received.read_int() == 77
    sequence.write_int(78)  # a view that was read does not keep the sequence from growing


@pytest.mark.parametrize("code", TypeCode)
def test_array_buffer_takes_every_kind_of_buffer(code: TypeCode) -> None:
    letter = ELEMENT_FORMATS[code]
    elements = array.array(letter, [1, 2, 3])
    expected = elements.tobytes()
    numbers = numpy.array([[1], [2], [3]], dtype=letter)
    for buffer in (elements, expected, bytearray(expected), memoryview(elements), numbers):
        sequence = MessageSequence()
        sequence.write_array_buffer(buffer, code)
        view = MessageSequence._received(bytes(sequence), None).read_array_buffer(code)
        assert view.tolist() == [1, 2, 3]
        assert numpy.frombuffer(view, dtype=letter).tolist() == [1, 2, 3]


def test_array_buffer_without_a_copy() -> None:
    sequence = MessageSequence()
    sequence.write_array_buffer(array.array("i", [1, 2]), TypeCode.INT32_ARRAY)
    data = bytes(sequence)
    view = MessageSequence._received(data, None).read_array_buffer(TypeCode.INT32_ARRAY)
    assert view.obj is data


def test_array_buffer_refusals() -> None:
    sequence = MessageSequence()
    matrix = numpy.zeros((4, 4), dtype="i")
    wrong: list[tuple[Any, Any, type[Exception], str]] = [
        (b"1234", 10, ParamValueError, "no TypeCode"),
        (b"1234", -1, ParamValueError, "no TypeCode"),
        (b"1234", "INT8_ARRAY", ParamTypeError, "takes a TypeCode"),
        (b"1234", True, ParamTypeError, "takes a TypeCode"),
        (b"123", TypeCode.INT16_ARRAY, ParamValueError, "no multiple of 2"),
        (b"12345", TypeCode.FLOAT64_ARRAY, ParamValueError, "no multiple of 8"),
        ([1, 2], TypeCode.INT8_ARRAY, ParamTypeError, "takes a buffer"),
        ("text", TypeCode.INT8_ARRAY, ParamTypeError, "takes a buffer"),
        (matrix.T[1:], TypeCode.INT32_ARRAY, ParamTypeError, "not C-contiguous"),
        (matrix, TypeCode.FLOAT64_ARRAY, ParamTypeError, "elements of 4 bytes"),
        (matrix.astype(">i4"), TypeCode.INT32_ARRAY, ParamTypeError, "format '>i'"),
        (matrix.astype("f"), TypeCode.INT32_ARRAY, ParamTypeError, "format 'f' are not INT32_ARRAY"),
        (matrix, TypeCode.FLOAT32_ARRAY, ParamTypeError, "format 'i' are not FLOAT32_ARRAY"),
        (matrix.astype("e"), TypeCode.INT16_ARRAY, ParamTypeError, "format 'e'"),
    ]
    for buffer, code, error, text in wrong:
        with pytest.raises(error, match=text):
            sequence.write_array_buffer(buffer, code)
    with pytest.raises(TooBigError):
        sequence.write_array_buffer(bytes(204_800), TypeCode.INT8_ARRAY)
    with pytest.raises(TooBigError):  # 2 bytes an element here, 4 on the wire
        sequence.write_array_buffer(bytes(102_400), TypeCode.INT16_ARRAY)
    sequence.write_array_buffer(bytes(204_796), TypeCode.INT8_ARRAY)
    sequence.rewind_write(0)
    sequence.write_array_buffer(numpy.zeros((0, 4), dtype="i"), TypeCode.INT32_ARRAY)
    assert bytes(sequence) == bytes(4)


@pytest.mark.parametrize("code", TypeCode)
@pytest.mark.parametrize("data", [b"", b"\1", struct.pack("<i", -1), struct.pack("<i", 9), struct.pack("<iB", 1, 0)])
def test_array_buffers_that_lie(code: TypeCode, data: bytes) -> None:
    sequence = MessageSequence._received(data, None)
    with pytest.raises(ParcelReadError):
        sequence.read_array_buffer(code)
    assert sequence.get_read_position() == 0
