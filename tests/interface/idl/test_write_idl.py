from __future__ import annotations

import enum
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binderkit import IRemoteObject, MessageSequence
from binderkit.interface import Float32, Int8, Int32, Interface, Property, UInt64, method, oneway, packed, raises
from binderkit.interface import transaction_code as code
from binderkit.interface.codec import Char, Fd
from binderkit.interface.idl import IdlError, from_python, module_name, parse_file, parse_string, to_python
from binderkit.interface.idl.layouts import RawData, RawUnion, UnionMember


class Color(enum.IntEnum):
    """What a lamp can show."""

    RED = 1
    BLUE = -7


@packed
@dataclass
class Spot:
    x: Int32
    color: Color


@packed
@dataclass
class Lamp(Spot):
    """A lamp."""

    names: list[str]
    spots: dict[str, Spot]
    level: UInt64 | None


@packed
@dataclass
class Power(RawUnion):
    watts = UnionMember("<f", float)
    color = UnionMember("<i", Color)


@packed
@dataclass
class Picture(RawData):
    pass


class Want:
    def marshalling(self, sequence: MessageSequence) -> bool:
        return sequence.get_size() >= 0

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        return sequence.get_size() >= 0


class IListener(Interface, descriptor="com.example.IListener"):
    @method
    def told(self, text: str) -> None: ...


class IBase(Interface, descriptor="com.example.IBase"):
    @method
    def ping(self) -> bool: ...


class ILamps(IBase, descriptor="com.example.lamps.ILamps"):
    """Lamps, and what they do."""

    @method
    def switch_all_on(self, lamp: Lamp, power: Power, level: Int8 = 3) -> None:
        """Switch */ them on."""

    @method
    @oneway
    def hint(self, text: str) -> None: ...
    @method
    @code(0x20)
    def find(self, want: Want, spots: set[int]) -> tuple[Spot, list[Float32], str]: ...
    @method
    def pictures(self, picture: Picture, file: Fd, letter: Char, r: IRemoteObject) -> Picture | None: ...
    @method
    @code(7)
    @oneway
    def listen(self, listener: IListener, lamps: ILamps) -> None: ...


LAMPS = """\
package com.example.lamps;

import IBase;
sequenceable Want;
rawdata Picture;
sequenceable OHOS.IRemoteObject;
interface com.example.IListener;

/*
 * What a lamp can show.
 */
enum Color {
    RED = 1,
    BLUE = -7,
};

struct Spot {
    int x;
    Color color;
};

/*
 * A lamp.
 */
struct Lamp : Spot {
    List<String> names;
    Map<String, Spot> spots;
    null_sharedptr<unsigned long> level;
};

union Power {
    float watts;
    Color color;
};

/*
 * Lamps, and what they do.
 */
interface ILamps extends IBase {
    /*
     * Switch * / them on.
     *
     * Defaults: level = 3.
     */
    void switchAllOn([in] Lamp lamp, [in] Power power, [in] byte level);
    [oneway] void hint([in] String text);
    [ipccode 32] String find([in] Want want, [in] Set<long> spots, [out] Spot out1, [out] List<float> out2);
    null_sharedptr<Picture> pictures(
        [in] Picture picture,
        [in] FileDescriptor file,
        [in] char letter,
        [in] IRemoteObject r);
    [oneway, ipccode 7] void listen([in] IListener listener, [in] ILamps lamps);
}
"""


def test_a_contract_as_idl() -> None:
    assert from_python(ILamps) == LAMPS


# --- there and back -----------------------------------------------------------------------------


def wire(interface: type[Interface]) -> dict[str, Any]:
    """Return a contract's description without its words."""
    described = interface.__contract__.describe()
    return {**described, "doc": "", "methods": [{**one, "doc": ""} for one in described["methods"]]}


def without_defaults(described: dict[str, Any]) -> dict[str, Any]:
    """The only thing the way through IDL loses: whether a parameter may be left out."""
    methods = [
        {**one, "parameters": [{**parameter, "optional": False} for parameter in one["parameters"]]}
        for one in described["methods"]
    ]
    return {**described, "methods": methods}


class Writer:
    """Writes contracts as IDL, these as Python, and imports that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def again(self, interface: type[Interface], *others: type[Interface]) -> Any:
        for one in (interface, *others):
            name = one.__contract__.descriptor.rpartition(".")[2]
            (self.folder / f"{name}.idl").write_text(from_python(one))
        for path in self.folder.glob("*.idl"):
            text = to_python(parse_file(path), classes={"Want": f"{__name__}:Want"})
            (self.folder / f"{module_name(path.stem)}.py").write_text(text)
        module = importlib.import_module(f"{self.folder.name}.{module_name(interface.__name__)}")
        return getattr(module, interface.__name__)


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    folder = tmp_path / "written_again"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Writer(folder)
    for name in [one for one in sys.modules if one.split(".")[0] == folder.name]:
        del sys.modules[name]


def test_the_way_there_and_back_gives_the_same_contract(writer: Writer) -> None:
    again = writer.again(ILamps, IBase, IListener)

    assert wire(again) == without_defaults(wire(ILamps)) != wire(ILamps)
    assert from_python(again) == LAMPS  # what were defaults is a comment now


def test_the_golden_contract_comes_back_the_same(writer: Writer) -> None:
    golden = importlib.import_module("tests.interface.idl.golden.i_media")
    again = writer.again(golden.IMedia, golden.IBase)

    assert wire(again) == wire(golden.IMedia)
    assert wire(again.__mro__[1]) == {**wire(golden.IBase), "name": "Base"}


# --- small things -------------------------------------------------------------------------------


def test_a_descriptor_without_a_package() -> None:
    class IAlone(Interface, descriptor="IAlone"):
        @method
        def f(self, in_: Int32, callback: Int32) -> None: ...

    text = from_python(IAlone)
    assert text == "interface IAlone {\n    void f([in] int in_, [in] int callback_);\n}\n"
    parse_string(text)


def test_out_parameters_get_names_that_are_free() -> None:
    class IOuts(Interface, descriptor="x.IOuts"):
        @method
        def f(self, out1: int) -> tuple[int, int, int | None]: ...

    assert "null_sharedptr<long> f([in] long out1, [out] long out1_, [out] long out2);" in from_python(IOuts)


def test_out_parameters_get_back_the_names_they_had() -> None:
    class IOuts(Interface, descriptor="x.IOuts"):
        @method
        def f(self, counter: int) -> tuple[int, int, int]:
            """What it does.

            Returns: counter, the_rest, the result.
            """

        @method
        def g(self) -> tuple[int, int]:
            """Returns: one, two, three, four."""

    text = from_python(IOuts)
    assert (
        "     * What it does.\n     */\n    long f([in] long counter, [out] long counter_, [out] long theRest);" in text
    )
    assert "     * Returns: one, two, three, four.\n     */\n    long g([out] long out1);" in text


class Fault(Exception):
    pass


@dataclass
class Plain:
    a: int


@packed
@dataclass
class WithDefault:
    a: int = 3


class Big(enum.IntEnum):
    A = 1 << 40


class Flags(enum.IntFlag):
    A = 1


class Word(enum.IntEnum):
    inout = 1


class Other:
    pass


def refusal(hint: Any, result: Any = None) -> str:
    class IOne(Interface, descriptor="x.IOne"):
        @method
        def f(self, a: hint) -> result: ...

    with pytest.raises(IdlError) as raised:
        from_python(IOne)
    return raised.value.reason


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (bytes, "IOne.f(a): IDL cannot say bytes; use list[UInt8], or a class derived from"),
        (Plain, "IOne.f(a): IDL cannot say Plain; structs of IDL have no length in front, decorate it with @packed"),
        (WithDefault, "IOne.f(a), WithDefault.a has a default; IDL has none, and its structs cannot grow"),
        (Big, "IOne.f(a): Big.A = 1099511627776 does not fit the int32 of an IDL enum"),
        (Flags, "IOne.f(a): IDL cannot say Flags"),
        (Word, "IOne.f(a): Word.inout is a keyword of IDL"),
        (int | str, "IOne.f(a): IDL cannot say int | str; its unions carry no tag"),
        (IListener | None, "its pointers do not stand around remote objects"),
        (IRemoteObject | None, "its pointers do not stand around remote objects"),
        (tuple[int, str], "IOne.f(a): IDL cannot say tuple[int, str]"),
        (frozenset[int], "IOne.f(a): IDL cannot say frozenset[int]"),
        (list[bytes], "IOne.f(a): IDL cannot say bytes"),
    ],
)
def test_what_idl_cannot_say_is_refused_naming_method_and_type(hint: Any, reason: str) -> None:
    assert reason in refusal(hint)


def test_a_result_idl_cannot_say() -> None:
    assert "IOne.f, its result: IDL cannot say bytes" in refusal(int, bytes)
    assert "IOne.f returns a stream; IDL has none" in refusal(int, AsyncIterator[int])


def test_other_things_idl_does_not_have() -> None:
    class IProperty(Interface, descriptor="x.IProperty"):
        title = Property(str)

    class IRaises(Interface, descriptor="x.IRaises"):
        @method
        @raises(Fault)
        def f(self) -> None: ...

    class IDashes(Interface, descriptor="x.with-dashes"):
        pass

    class IKeyword(Interface, descriptor="x.callback"):
        pass

    class ITwo(IListener, IBase, descriptor="x.ITwo"):
        pass

    for interface, reason in (
        (IProperty, "x.IProperty.title is a property; IDL has none"),
        (IRaises, "IRaises.f declares Fault; IDL has no exceptions"),
        (IDashes, "descriptor 'x.with-dashes' is no IDL name"),
        (IKeyword, "descriptor 'x.callback' is no IDL name"),
        (ITwo, "x.ITwo extends 2 interfaces; in IDL it can extend one"),
        (Other, "declares no contract"),
    ):
        with pytest.raises(IdlError) as raised:
            from_python(interface)  # type: ignore[arg-type]
        assert reason in raised.value.reason


def test_two_classes_of_one_name_are_refused() -> None:
    first = packed(dataclass(type("Same", (), {"__annotations__": {"a": int}})))
    second = packed(dataclass(type("Same", (), {"__annotations__": {"b": str}})))

    class ITwice(Interface, descriptor="x.ITwice"):
        @method
        def f(self, a: first, b: second) -> None: ...  # type: ignore[valid-type]

    with pytest.raises(IdlError, match="two different classes are called Same"):
        from_python(ITwice)
