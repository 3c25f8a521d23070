"""RemoteObject: descriptors, brokers, which handler is called and with how many arguments."""

from __future__ import annotations

import os
from typing import Any

import pytest

from binderkit.errors import OnlyProxyPermittedError, ParamTypeError, ParamValueError, UnknownTransactionError
from binderkit.ipc.option import CallingInfo
from binderkit.ipc.proxy import DeathRecipient
from binderkit.ipc.remote import IRemoteBroker, RemoteObject
from binderkit.parcel import MessageSequence


class Broker(IRemoteBroker):
    def as_object(self) -> RemoteObject:
        return RemoteObject("x")


class Four(RemoteObject):
    seen: Any = None

    def on_remote_message_request(self, code: Any, data: Any, reply: Any, option: Any) -> bool:
        self.seen = code
        return True


class Five(RemoteObject):
    seen: Any = None

    def on_remote_message_request(self, code: Any, data: Any, reply: Any, option: Any, info: Any) -> bool:  # type: ignore[override]
        self.seen = info
        return True


class Old(RemoteObject):
    seen: Any = None

    def on_remote_request(self, code: Any, data: Any, reply: Any, option: Any) -> bool:
        self.seen = "old"
        return True


class Both(Old):
    def on_remote_message_request(self, code: Any, data: Any, reply: Any, option: Any) -> bool:
        self.seen = "new"
        return True


def call(stub: RemoteObject) -> None:
    stub.send_request(9, MessageSequence(), MessageSequence())


@pytest.mark.parametrize(("kind", "seen"), [(Four, 9), (Old, "old"), (Both, "new")])
def test_which_handler_is_called(kind: type[Any], seen: Any) -> None:
    stub = kind("d")
    call(stub)
    assert stub.seen == seen


def test_a_fifth_parameter_gets_the_calling_info() -> None:
    stub = Five("d")
    call(stub)
    assert isinstance(stub.seen, CallingInfo)
    assert (stub.seen.caller_pid, stub.seen.caller_uid, stub.seen.is_local_calling) == (os.getpid(), os.getuid(), True)


@pytest.mark.parametrize(
    ("bad", "error"), [(5, ParamTypeError), (None, ParamTypeError), ("x" * 40960, ParamValueError)]
)
def test_bad_descriptors(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        RemoteObject(bad)


def test_the_longest_descriptor() -> None:
    assert RemoteObject("x" * 40959).get_descriptor() == "x" * 40959


def test_brokers_by_descriptor() -> None:
    stub, broker = RemoteObject("d"), Broker()
    stub.modify_local_interface(broker, "d")
    assert stub.get_local_interface("d") is broker
    assert stub.get_local_interface("e") is None


def test_a_stub_is_not_dead_and_has_no_death_recipients() -> None:
    class Nobody(DeathRecipient):
        def on_remote_died(self) -> None: ...

    stub = RemoteObject("d")
    assert not stub.is_object_dead()
    with pytest.raises(OnlyProxyPermittedError):
        stub.register_death_recipient(Nobody())
    with pytest.raises(OnlyProxyPermittedError):
        stub.unregister_death_recipient(Nobody())


class Polite(RemoteObject):
    def on_remote_message_request(self, code: Any, data: Any, reply: Any, option: Any) -> Any:
        return super().on_remote_message_request(code, data, reply, option)


def test_the_default_handler_refuses_a_code_by_name() -> None:
    with pytest.raises(UnknownTransactionError, match="'a' does not know transaction 9"):
        call(Polite("a"))
