"""What an object can be asked about its contract."""

from __future__ import annotations

import pytest

import binderkit as bk
from binderkit.errors import CommunicationError, InterfaceMismatchError, ParamTypeError
from binderkit.interface import describe, interface_hash, interface_version, proxy
from binderkit.ipc.remote import IRemoteObject
from tests.interface.service import Echo, IEcho, IListener, IMore


def test_version_hash_and_description(remote: IRemoteObject) -> None:
    assert interface_version(remote, IEcho) == 2
    assert interface_hash(remote, IEcho) == IEcho.__contract__.hash
    told = describe(remote)
    assert [one["descriptor"] for one in told] == ["test.IEcho", "test.IBase", "test.IMore"]
    assert told[0] == IEcho.__contract__.describe()


def test_a_version_that_is_needed(remote: IRemoteObject) -> None:
    assert proxy(IEcho, remote, at_least=2).echo(1) == 1
    with pytest.raises(InterfaceMismatchError, match=r"implements test.IEcho version 2, version 3 is needed"):
        proxy(IEcho, remote, at_least=3)


def test_another_interface_of_the_same_object(echo: IEcho) -> None:
    assert echo.as_(IMore).more() == "more"
    assert echo.as_(IMore).as_(IEcho).echo(4) == 4
    with pytest.raises(InterfaceMismatchError, match=r"does not have the interface test.IListener"):
        echo.as_(IListener)


def test_an_interface_that_was_attached() -> None:
    service, other = Echo(), Echo()
    service.as_object().modify_local_interface(other, "test.IAttached")  # type: ignore[attr-defined]
    assert service.as_object().get_local_interface("test.IAttached") is other


def test_an_object_without_a_typed_interface() -> None:
    plain = bk.RemoteObject("test.IPlain")
    for ask in (lambda: describe(plain), lambda: interface_version(plain, IEcho)):
        with pytest.raises(InterfaceMismatchError, match="has no typed interface"):
            ask()
    with pytest.raises(ParamTypeError, match="expected a class that declares an interface"):
        interface_version(plain, Echo)


@pytest.mark.parametrize("told", [b"{", b"[3]", b"{}", b"[" * 5000])
def test_a_description_that_makes_no_sense(told: bytes) -> None:
    class Liar(bk.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> bool:
            reply.write_int(len(told))
            reply.write_raw_data_buffer(told, len(told))
            return True

    with pytest.raises(CommunicationError, match="the description of"):
        describe(Liar("test.ILiar"))
