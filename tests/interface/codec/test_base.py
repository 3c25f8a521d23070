"""What all codecs share: how errors are told, references, sequences that cannot be written or read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from binderkit.errors import ParamTypeError, ParamValueError, ParcelReadError, ParcelWriteError, TooBigError
from binderkit.interface.codec import Fd, Mismatch, MismatchType, MismatchValue, OwnedFd, codec_for, owns_descriptors
from binderkit.parcel import MessageSequence
from tests.interface.codec.wire import int32, malformed, read_from, refused, returned


@dataclass
class Chain:
    number: int
    next: Chain | None = None


@dataclass
class Open:
    inner: Chain
    fd: Fd
    more: list[Open]


def test_a_mismatch_tells_path_expected_and_given() -> None:
    error = refused(dict[str, list[tuple[int, str]]], {"a": [(1, "x"), (2, 3)]})
    assert isinstance(error, MismatchType) and isinstance(error, ParamTypeError)
    assert error.path == ["['a']", "[1]", "[1]"]
    assert (error.expected, error.given) == ("str", "int 3")
    assert str(error) == "['a'][1][1]: expected str, got int 3 [code 401]"


def test_explained_puts_the_place_in_front() -> None:
    error = refused(list[int], [1, 2**63]).explained("IPhoto.measure(sizes)")
    assert type(error) is ParamValueError
    assert error.args[0].startswith("IPhoto.measure(sizes): at [1]: expected int64, -9223372036854775808 … ")
    plain = refused(int, "x").explained("IPhoto.measure(size)")
    assert type(plain) is ParamTypeError
    assert plain.args[0] == "IPhoto.measure(size): expected int64, got str 'x'"


def test_a_long_path_is_cut_short() -> None:
    chain = Chain(0)
    for number in range(50):
        chain = Chain(number, chain)
    deepest = chain
    while deepest.next is not None:
        deepest = deepest.next
    deepest.number = "x"  # type: ignore[assignment]
    error = refused(Chain, chain)
    assert len(error.path) == 51
    assert str(error).startswith(".next" * 12 + "…: expected int64")


@pytest.mark.parametrize("hint, value", [(int, 1), (str, "x"), (list[int], [1]), (Chain, Chain(1)), (bytes, b"x")])
def test_a_sequence_that_was_received_or_reclaimed_takes_nothing(hint: object, value: object) -> None:
    codec = codec_for(hint)
    received = MessageSequence._received(b"", None)
    with pytest.raises(ParcelWriteError, match="received"):
        codec.write(received, value)
    received.reclaim()
    with pytest.raises(ParcelWriteError, match="reclaimed"):
        codec.write(received, value)
    with pytest.raises(ParcelReadError, match="reclaimed"):
        codec.read(received)


@pytest.mark.parametrize(
    "hint, value",
    [
        (list[int], [7] * 25_600),
        (list[str], ["x" * 30_000] * 4),
        (dict[int, int], dict.fromkeys(range(13_000), 7)),
        (tuple[int, int], (1, 2)),
        (Chain, Chain(1)),
        (bytes, bytes(30_000)),
        (int, 1),
        (int | None, None),
    ],
)
def test_the_limit_of_a_transaction_holds(hint: object, value: object) -> None:
    with MessageSequence() as sequence:
        sequence._out += bytes(204_800 - 4)
        with pytest.raises(TooBigError):
            codec_for(hint).write(sequence, value)
            codec_for(hint).write(sequence, value)


def test_recursion_without_end_is_an_error_like_others() -> None:
    circle = Chain(1)
    circle.next = circle
    assert "nested less deeply" in str(refused(Chain, circle))
    assert "nested too deeply" in malformed(list[Chain], int32(1) + _nested(3_000))


def _nested(levels: int) -> bytes:
    chain = int32(1, 12, 0, 0, 0)
    for _ in range(levels):
        chain = int32(1, 12 + len(chain), 0, 0, 1) + chain
    return chain


def test_a_deep_but_finite_chain_travels() -> None:
    chain = Chain(0)
    for number in range(60):
        chain = Chain(number, chain)
    assert returned(Chain, chain) == chain


def test_whether_a_type_can_hold_descriptors() -> None:
    assert owns_descriptors(codec_for(Open))
    assert owns_descriptors(codec_for(dict[str, OwnedFd | None]))
    assert not owns_descriptors(codec_for(Chain))


def test_a_mismatch_is_one_root() -> None:
    assert issubclass(MismatchType, Mismatch) and issubclass(MismatchValue, Mismatch)
    assert read_from(int | None, int32(0)) is None
    assert repr(codec_for(list[int])) == "<codec list[int64]>"
