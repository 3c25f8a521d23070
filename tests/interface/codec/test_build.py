"""From hints to codecs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar, Union

import pytest

from binderkit.interface.codec import FloatSize, Int8, Int32, IntSize, codec_for
from binderkit.interface.codec.build import hint_key
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.interface.codec.wire import int32, malformed, returned, sent

T = TypeVar("T")
UserId = NewType("UserId", int)


class TypeAliasType:
    """What ``type Json = …`` makes from Python 3.12 on: an alias whose value is looked up when asked for."""

    def __init__(self, value: Callable[[], Any]) -> None:
        self._value = value

    @property
    def __value__(self) -> Any:
        return self._value()


JSON: Any = TypeAliasType(lambda: Union[None, bool, float, str, list[JSON], dict[str, JSON]])  # noqa: UP007


@dataclass
class Endless(Generic[T]):
    value: T
    inner: Endless[list[T]] | None = None


@dataclass
class First:
    second: Second | None = None


@dataclass
class Second:
    first: First | None = None
    number: int = 0


def test_there_is_one_codec_for_a_hint() -> None:
    for hint in (int, list[int], dict[str, First], First, Literal["a"], Int8, int | None):
        assert codec_for(hint) is codec_for(hint)
    assert codec_for(Annotated[int, "a remark"]) is codec_for(int)
    assert codec_for(UserId) is codec_for(int)


@pytest.mark.parametrize(
    "one, other",
    [
        (int | str, str | int),
        (Union[int, str], Union[str, int]),  # noqa: UP007
        (list[int | str], list[str | int]),
        (Literal[1, 2], Literal[2, 1]),
        (Literal[1], Literal[True]),
        (Int8, Int32),
        (list[Int8], list[Int32]),
        (tuple[int, ...], tuple[int, int]),
    ],
)
def test_hints_that_differ_on_the_wire_have_codecs_of_their_own(one: Any, other: Any) -> None:
    assert hint_key(one) != hint_key(other)
    assert codec_for(one) is not codec_for(other)


def test_ways_to_write_the_same() -> None:
    pairs: list[tuple[Any, Any]] = [
        (Optional[int], int | None),  # noqa: UP045
        (Union[int, str, None], int | str | None),  # noqa: UP007
        (None, type(None)),
    ]
    for one, other in pairs:
        assert codec_for(one).describe({}) == codec_for(other).describe({})


def test_mutual_recursion() -> None:
    value = First(Second(First(Second(None, 5)), 7))
    assert returned(First, value) == value
    assert returned(Second, Second(First())) == Second(First())


def test_a_recursive_alias() -> None:
    value = {"a": [1.0, "x", None, True], "b": {"c": []}}
    assert returned(JSON, value) == value


def test_threads_get_the_same_codec() -> None:
    @dataclass
    class Local:
        number: int
        more: list[Local]

    barrier = threading.Barrier(4)
    found: list[object] = []

    def find() -> None:
        barrier.wait()
        found.append(codec_for(Local))
        found.append(codec_for(list[Local]))

    threads = [threading.Thread(target=find) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(codec) for codec in found}) == 2


@pytest.mark.parametrize(
    "hint, text",
    [
        (Any, "Any.*say which type"),
        (object, "object cannot travel: say which type"),
        (list, r"list cannot travel: say what it holds: list\[int\]"),
        (dict, "say what it holds"),
        (set, "say what it holds"),
        (tuple, "say what it holds"),
        (complex, "use a tuple"),
        (type, "cannot travel"),
        (Callable[[int], int], "no type that can travel"),
        (threading.Lock, "cannot travel"),
        (Iterator[int], "result of a method only"),
        (AsyncIterator[int], "result of a method only"),
        (list[Iterator[int]], "result of a method only"),
        (T, "stands for no type"),
        ("int", "cannot travel"),
        (5, "cannot travel"),
        ([int], "no type that can travel"),
        (Endless[int], "has no end"),
        (Annotated[str, IntSize(8, True)], "does not go with"),
        (Annotated[int, FloatSize(32)], "does not go with"),
        (Annotated[int, IntSize(24, True)], "8, 16, 32 or 64 bits"),
        (Annotated[float, FloatSize(16)], "32 or 64 bits"),
        (Literal, "cannot travel"),
    ],
)
def test_what_cannot_travel(hint: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        codec_for(hint)


def test_a_parcelable_is_made_without_arguments() -> None:
    class Needs:
        def __init__(self, number: int) -> None:
            self.number = number

        def marshalling(self, sequence: MessageSequence) -> bool:
            return True

        def unmarshalling(self, sequence: MessageSequence) -> bool:
            return True

    with pytest.raises(TypeError, match="Needs: a received Parcelable is made without arguments"):
        codec_for(Needs)


def test_a_stub_class_is_no_hint() -> None:
    class Mine(RemoteObject):
        pass

    with pytest.raises(TypeError, match="Mine cannot travel as itself; use IRemoteObject"):
        codec_for(Mine)


def test_the_field_is_named() -> None:
    @dataclass
    class Bad:
        good: int
        bad: complex

    for _ in range(2):
        with pytest.raises(TypeError, match=r"Bad\.bad: complex cannot travel"):
            codec_for(Bad)


def test_hostile_nesting_of_an_alias_ends() -> None:
    assert "nested too deeply" in malformed(JSON, int32(1, 3, 1) * 2_000 + int32(0))
    assert sent(JSON, None) == int32(0)


def test_interfaces_without_times_do_not_pay_for_them() -> None:
    code = (
        "import sys, binderkit.interface as i\n"
        "class IPlain(i.Interface, descriptor='p'):\n"
        "    @i.method\n"
        "    def add(self, values: list[int], name: str) -> int: ...\n"
        "print(sorted({'uuid', 'platform', 'decimal', 'asyncio'} & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert told.stdout == "[]\n"
