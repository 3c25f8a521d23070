"""Declaring contracts: numbers, hashes, and what is refused with which words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from binderkit.errors import ParamTypeError
from binderkit.interface import Interface, Property, method, oneway, proxy, raises, transaction_code
from binderkit.testing import loopback
from tests.interface.service import Echo, IBase, IEcho, IListener, Listener


def test_methods_are_numbered_in_the_order_of_declaration() -> None:
    contract = IEcho.__contract__
    assert (contract.properties["volume"].getter, contract.properties["volume"].setter) == (1, 2)
    assert (contract.properties["size"].getter, contract.properties["size"].setter) == (3, 0)
    assert [contract.methods[name].code for name in ("echo", "words", "hints", "fail", "slow")] == [4, 5, 8, 30, 31]
    assert IBase.__contract__.methods["name"].code == 1, "an inherited method keeps its number and token"
    assert "name" not in contract.methods
    assert contract.bases == (IBase.__contract__,)


def test_a_service_may_call_its_own_things_what_it_likes() -> None:
    class Busy(IListener):
        def __init__(self) -> None:
            self._table, self._tables, self._token, self._token_size = {"a": 1}, [2], "secret", 3

        def _other(self, word: str) -> str:
            return word

        def told(self, text: str) -> int:
            return len(self._other(text))

    class IMine(Interface, descriptor="test.IMine"):
        @method
        def more(self) -> str: ...

    class Busier(Busy, IMine):
        def more(self) -> str:
            return self._other("more")

    with loopback() as pair:
        remote = pair.offer(Busier())
        assert proxy(IListener, remote).told("it") == 2
        assert proxy(IMine, remote).more() == "more"  # found by what is no method of the first interface


def test_the_hash_knows_the_wire_and_nothing_else() -> None:
    def declared(doc: str, hint: type) -> str:
        class IOne(Interface, descriptor="test.IOne"):
            @method
            def get(self, value: object) -> None: ...

            get.__annotations__.update(value=hint)

        IOne.__doc__ = doc
        return IOne.__contract__.hash

    assert declared("a", int) == declared("b", int)
    assert declared("a", int) != declared("a", str)
    script = "from tests.interface.service import IEcho; print(IEcho.__contract__.hash)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == IEcho.__contract__.hash, "the same in every process"


def test_hints_may_name_what_comes_later() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from __future__ import annotations\n"
            "from dataclasses import dataclass\n"
            "from binderkit.interface import Interface, method\n"
            "class IA(Interface, descriptor='a'):\n"
            "    @method\n"
            "    def get(self, other: IB) -> Later: ...\n"
            "class IB(Interface, descriptor='b'):\n"
            "    @method\n"
            "    def back(self) -> IA: ...\n"
            "@dataclass\n"
            "class Later:\n"
            "    x: int\n"
            "print(IA.__contract__.methods['get'].result.name())\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "Later"


def test_what_is_no_contract() -> None:
    with pytest.raises(TypeError, match=r"IBad1.get\(value\): it has no hint"):

        class IBad1(Interface, descriptor="x"):
            @method
            def get(self, value) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match="say what it returns"):

        class IBad2(Interface, descriptor="x"):
            @method
            def get(self, value: int): ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match="cannot travel"):

        class IBad3(Interface, descriptor="x"):
            @method
            def get(self, *values: int) -> None: ...

    with pytest.raises(TypeError, match="both have code 4"):

        class IBad4(Interface, descriptor="x"):
            @method
            @transaction_code(4)
            def a(self) -> None: ...
            @method
            @transaction_code(4)
            def b(self) -> None: ...

    with pytest.raises(TypeError, match="code 0 is not in 1"):

        class IBad5(Interface, descriptor="x"):
            @method
            @transaction_code(0)
            def a(self) -> None: ...

    with pytest.raises(TypeError, match="is one-way: it returns None and raises nothing"):

        class IBad6(Interface, descriptor="x"):
            @method
            @oneway
            @raises(KeyError)
            def a(self) -> None: ...

    with pytest.raises(TypeError, match="the name is taken by every remote object"):

        class IBad7(Interface, descriptor="x"):
            @method
            def get_descriptor(self) -> str: ...

    with pytest.raises(TypeError, match=r"a contract has methods and Property\(...\) only"):

        class IBad8(Interface, descriptor="x"):
            limit = 5

    with pytest.raises(TypeError, match=r"say descriptor='com\.example\.Nothing'"):

        class Nothing(Interface):
            pass

    with pytest.raises(TypeError, match="an interface extends interfaces, not Listener"):

        class IBad9(Listener, descriptor="x"):
            pass


def test_an_implementation_is_complete_and_fits() -> None:
    class Incomplete(IListener):
        pass

    with pytest.raises(TypeError, match="told"):
        Incomplete()  # type: ignore[abstract]

    class Narrow(IListener):
        def told(self) -> int:  # type: ignore[override]
            return 0

    with pytest.raises(TypeError, match=r"Narrow.told cannot be called as IListener.told is"):
        Narrow()


def test_objects_and_classes_of_a_contract() -> None:
    service = Echo()
    assert service.as_object() is service
    assert service.as_object().get_descriptor() == "test.IEcho"
    made = proxy(IEcho, service)
    assert isinstance(made, IEcho)
    assert made == proxy(IEcho, service)
    assert made != proxy(IEcho, Echo())
    assert len({made, proxy(IEcho, service)}) == 1
    assert repr(made).startswith("<IEchoProxy of ")
    assert repr(IEcho.__contract__) == "<Contract 'test.IEcho' version 2>"
    with pytest.raises(ParamTypeError, match="expected a class that declares an interface"):
        proxy(Echo, service)
    with pytest.raises(ParamTypeError, match="proxy takes a remote object"):
        proxy(IEcho, 5)  # type: ignore[arg-type]


def test_a_property_counts_as_declared() -> None:
    class ILamp(Interface, descriptor="test.ILamp"):
        @method
        def toggle(self) -> None: ...

        on = Property(bool)

        @method
        def last(self) -> None: ...

    contract = ILamp.__contract__
    assert [contract.methods["toggle"].code, contract.properties["on"].getter, contract.methods["last"].code] == [
        1,
        2,
        4,
    ]
