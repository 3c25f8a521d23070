"""fuzz_service on typed objects: valid messages come from the contract, nothing damaged reaches a method."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import binderkit as bk
from binderkit.interface import codes
from binderkit.interface.codec import Codec
from binderkit.interface.contract import Interface
from binderkit.interface.marks import method
from binderkit.interface.properties import Property
from binderkit.testing import fuzz_service
from tests.testing.interfaces import AsyncPhotos, Everything, IPhoto, Photos, Size


@pytest.mark.parametrize("kind", [Photos, AsyncPhotos, Everything])
def test_right_implementations_stand_it(kind: type[Photos]) -> None:
    report = fuzz_service(kind(), seed=11, rounds=400)
    assert report.blind == ()
    assert report.handled > 80
    assert report.refused > 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Photos, AsyncPhotos, Everything])
def test_right_implementations_stand_it_for_long(kind: type[Photos]) -> None:
    report = fuzz_service(kind(), rounds=5000)
    assert report.blind == ()
    assert report.handled > 1000
    assert report.refused > 500


def test_every_method_is_reached_with_values_of_its_types() -> None:
    everything = Everything()
    fuzz_service(everything, seed=6, rounds=600)
    assert everything.reached == {"numbers", "containers", "choices", "structs", "times", "words", "objects"}
    assert everything.hints


def test_only_the_codes_asked_for_are_called() -> None:
    photos = Photos()
    fuzz_service(photos, seed=1, rounds=300, codes=[IPhoto.__contract__.methods["thumbnail"].code])
    assert photos.hints == []


def test_the_object_is_left_as_it_was() -> None:
    photos = Photos()
    before = set(vars(photos))
    fuzz_service(photos, seed=1, rounds=20)
    assert set(vars(photos)) - before <= {"_property_watchers"}
    assert photos.measure.__func__ is Photos.measure  # type: ignore[attr-defined]


def test_a_mistake_of_a_method_is_found() -> None:
    class Wrong(Photos):
        def measure(self, image: bytes) -> Size:
            return Size(image[3])

    with pytest.raises(AssertionError, match="raised IndexError") as raised:
        fuzz_service(Wrong(), seed=1)
    assert f"code {IPhoto.__contract__.methods['measure'].code}," in str(raised.value)


class _Lenient:
    """A codec that lets anything pass."""

    def __init__(self, real: Codec, read: Callable[[bk.MessageSequence], Any]) -> None:
        self._real = real
        self.read = read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _count(read: Callable[[bk.MessageSequence], Any]) -> Interface:
    """Return an object whose only parameter is read by ``read``."""

    class ICount(Interface, descriptor="binderkit.tests.ICount"):
        @method
        def count(self, names: list[str]) -> int: ...

    (parameter,) = ICount.__contract__.methods["count"].parameters
    object.__setattr__(parameter, "codec", _Lenient(parameter.codec, read))

    class Count(ICount):
        def count(self, names: list[str]) -> int:
            return len(str(names))

    return Count()


def test_a_codec_that_lets_something_wrong_through_is_caught_at_the_door() -> None:
    with pytest.raises(AssertionError, match=r"a damaged message reached ICount\.count, where names is no"):
        fuzz_service(_count(lambda data: data.read_int()), seed=1)


@pytest.mark.parametrize("error", [ValueError, KeyError, OverflowError, UnicodeError])
def test_a_codec_that_fails_otherwise_than_by_a_parcel_error_is_caught(error: type[Exception]) -> None:
    def read(data: bk.MessageSequence) -> list[str]:
        if data.read_int() > 100:
            raise error("from marshalling")
        return []

    with pytest.raises(AssertionError, match=f"raised {error.__name__}"):
        fuzz_service(_count(read), seed=1)


def test_a_descriptor_that_a_refused_call_leaves_open_is_found() -> None:
    opened: list[int] = []

    def read(data: bk.MessageSequence) -> list[str]:
        opened.append(data.read_file_descriptor())
        raise bk.errors.ParcelReadError("and nobody closes it")

    with bk.MessageSequence() as sequence, open("/proc/self/exe", "rb") as file:
        sequence.write_interface_token("binderkit.tests.ICount")
        sequence.write_file_descriptor(file)
        with pytest.raises(AssertionError, match=r"refused before its method, and \d descriptors stayed open"):
            fuzz_service(_count(read), seed=1, samples=[(1, sequence)])
    for descriptor in opened:
        os.close(descriptor)


def test_the_same_error_of_a_method_is_the_application_s_own() -> None:
    class Strict(Photos):
        def measure(self, image: bytes) -> Size:
            raise ValueError("I never measure")

    assert fuzz_service(Strict(), seed=1, rounds=500).refused


def test_a_property_that_has_no_value_yet_is_not_asked_for_it() -> None:
    class INamed(Interface, descriptor="binderkit.tests.INamed"):
        name = Property(str, readonly=True)

        @method
        def nothing(self) -> None: ...

    class Named(INamed):
        def nothing(self) -> None:
            pass

    assert fuzz_service(Named(), seed=1, rounds=300, codes=[2, codes.DESCRIBE, codes.GET_HASH]).handled


def test_a_method_no_value_can_be_made_up_for_is_reported() -> None:
    @dataclass
    class Even:
        number: int

        def __post_init__(self) -> None:
            raise ValueError("no number is even enough")

    class IEven(Interface, descriptor="binderkit.tests.IEven"):
        @method
        def take(self, even: Even) -> None: ...

    class Takes(IEven):
        def take(self, even: Even) -> None:
            pass

    report = fuzz_service(Takes(), seed=1, rounds=300)
    assert report.blind == ("1: Even refuses made-up values: no number is even enough",)
