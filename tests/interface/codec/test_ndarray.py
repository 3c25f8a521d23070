"""numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from binderkit.interface.codec import MismatchType, MismatchValue, codec_for
from binderkit.parcel import MessageSequence
from tests.interface.codec.wire import (
    examples,
    hostile,
    int32,
    int64,
    malformed,
    mutated,
    refused,
    returned,
    sent,
    string16,
    survives,
)

DTYPES = ["<i1", "<i2", ">i4", "<i8", "<u1", "<u2", "<u4", ">u8", "<f2", "<f4", ">f8", "<c8", "<c16", "?"]
SMALL = numpy.arange(6, dtype="<i4").reshape(2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
@examples
@given(shape=st.lists(st.integers(0, 4), max_size=4).map(tuple), fortran=st.booleans())
def test_trips(dtype: str, shape: tuple[int, ...], fortran: bool) -> None:
    count = int(numpy.prod(shape))
    value = (numpy.arange(count) % 2).astype(dtype).reshape(shape, order="F" if fortran else "C")
    again = returned(numpy.ndarray, value)
    assert again.dtype == value.dtype
    assert again.shape == value.shape
    assert numpy.array_equal(again, value)
    assert not again.flags.writeable


def test_the_bytes() -> None:
    expected = string16("<i4") + int32(2) + int64(2, 3) + int32(24) + int32(0, 1, 2, 3, 4, 5)
    assert sent(numpy.ndarray, SMALL) == expected
    assert sent(numpy.ndarray, numpy.asfortranarray(SMALL)) == expected
    assert sent(numpy.ndarray, SMALL[::1]) == expected
    assert sent(numpy.ndarray, numpy.array(True)) == string16("|b1") + int32(0, 1) + b"\1\0\0\0"
    assert sent(numpy.ndarray, numpy.zeros((3, 0))) == string16("<f8") + int32(2) + int64(3, 0) + int32(0)


def test_a_slice_is_copied() -> None:
    assert numpy.array_equal(returned(numpy.ndarray, SMALL[:, ::2]), SMALL[:, ::2])


def test_large_arrays_are_shared_and_not_copied() -> None:
    value = numpy.arange(1 << 17, dtype="<f8")
    with MessageSequence() as sequence:
        codec_for(numpy.ndarray).write(sequence, value)
        assert sequence.get_size() < 100
        again = codec_for(numpy.ndarray).read(sequence)
        assert not again.flags.writeable
        assert not again.flags.owndata
        assert numpy.array_equal(again, value)
        del again


def test_the_hint_can_name_the_elements() -> None:
    value = numpy.ones(3, dtype="<f4")
    assert numpy.array_equal(returned(NDArray[numpy.float32], value), value)
    assert numpy.array_equal(returned(NDArray[numpy.floating], value), value)
    assert numpy.array_equal(returned(NDArray[Any], value), value)
    error = refused(NDArray[numpy.float64], value)
    assert (error.expected, error.given) == ("ndarray[float64]", "an array of float32")
    assert "elements are float32" in malformed(NDArray[numpy.float64], sent(numpy.ndarray, value))


def test_what_does_not_fit() -> None:
    for wrong in ([1, 2], 5, None, numpy.float64(1), numpy.ma.array([1])):
        assert isinstance(refused(numpy.ndarray, wrong), MismatchType)
    for value in (numpy.array([object()]), numpy.array(["a"]), numpy.zeros(2, "i4,i4"), numpy.zeros(1, "M8[s]")):
        assert isinstance(refused(numpy.ndarray, value), MismatchValue)
    assert isinstance(refused(numpy.ndarray, numpy.zeros((1,) * 33)), MismatchValue)


@pytest.mark.parametrize(
    "dtype", ["O", "|O8", "|V8", "<M8[s]", "<U4", "i4,i4", "<f1", "<i3", "", "<i4\0", "=i4", "|S4"]
)
def test_other_dtypes_are_malformed(dtype: str) -> None:
    assert "dtype" in malformed(numpy.ndarray, string16(dtype) + int32(1) + int64(2) + int32(8) + bytes(8))


@pytest.mark.parametrize(
    "shape",
    [(2,), (-1,), (-1, -1), (2**62, 4), (2**63 - 1,) * 3, (0,), (1, 0, 2**62), (3, 1, 1)],
)
def test_shapes_are_checked(shape: tuple[int, ...]) -> None:
    head = string16("<i4") + int32(len(shape)) + int64(*shape)
    malformed(numpy.ndarray, head + int32(4, 7))


def test_empty_arrays_of_impossible_size_are_malformed() -> None:
    malformed(numpy.ndarray, string16("<i4") + int32(3) + int64(0, 2**62, 2**62) + int32(0))


def test_dimensions_are_checked() -> None:
    assert "outside 0 … 32" in malformed(numpy.ndarray, string16("<i4") + int32(33) + bytes(400))
    assert "shape" in malformed(numpy.ndarray, string16("<i4") + int32(5) + bytes(8))


def test_a_bool_is_0_or_1() -> None:
    assert "neither 0 nor 1" in malformed(numpy.ndarray, string16("|b1") + int32(1) + int64(2) + int32(2) + b"\1\2\0\0")


def test_names() -> None:
    assert codec_for(numpy.ndarray).name() == "ndarray"
    assert codec_for(NDArray[numpy.int8]).describe({}) == "ndarray[int8]"


@given(data=hostile | mutated(sent(numpy.ndarray, SMALL)) | mutated(sent(numpy.ndarray, numpy.array([True, False]))))
def test_hostile_bytes(data: bytes) -> None:
    survives(numpy.ndarray, data)
