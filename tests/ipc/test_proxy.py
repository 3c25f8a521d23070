"""RemoteProxy over a connection that only notes what it is asked: death recipients, codes, finalizer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from binderkit.errors import (
    CommunicationError,
    DeadObjectError,
    InvalidCodeError,
    OnlyRemoteObjectPermittedError,
    ParamTypeError,
)
from binderkit.ipc.context import Caller
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.parcel import MessageSequence


class Connection:
    """Answers the interface question with ``descriptor``."""

    def __init__(self, descriptor: str = "test.IFar") -> None:
        self.caller = Caller(1, 2, 3)
        self.is_dead = False
        self.calls: list[int] = []
        self._descriptor = descriptor

    def transact(self, handle: int, code: int, data: Any, reply: MessageSequence, option: Any) -> int:
        self.calls.append(code)
        reply.write_string(self._descriptor)
        return 0

    async def transact_async(self, *_: Any) -> int:
        return 0

    def flush(self) -> None:
        """Nothing is queued."""


class Recipient(DeathRecipient):
    def __init__(self, raises: bool = False) -> None:
        self.count = 0
        self._raises = raises

    def on_remote_died(self) -> None:
        self.count += 1
        if self._raises:
            raise ValueError("a recipient fails")


def test_recipients_are_told_once_per_registration() -> None:
    proxy = RemoteProxy(Connection(), 5)
    twice, never = Recipient(), Recipient()
    for recipient in (twice, never, twice):
        proxy.register_death_recipient(recipient)
    assert proxy.unregister_death_recipient(never)
    assert not proxy.unregister_death_recipient(never)
    proxy.obituary()
    proxy.obituary()
    assert (twice.count, never.count) == (2, 0)
    assert not proxy.unregister_death_recipient(twice)
    assert not proxy.has_recipients


def test_a_recipient_that_raises_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    proxy = RemoteProxy(Connection(), 5)
    bad, good = Recipient(raises=True), Recipient()
    proxy.register_death_recipient(bad)
    proxy.register_death_recipient(good)
    with caplog.at_level(logging.ERROR, logger="binderkit.ipc"):
        proxy.obituary()
    assert good.count == 1
    assert "raised; the others are still told" in caplog.text


def test_registering_on_a_dead_proxy_says_so() -> None:
    connection = Connection()
    proxy = RemoteProxy(connection, 5)
    connection.is_dead = True
    with pytest.raises(DeadObjectError, match="dead already"):
        proxy.register_death_recipient(Recipient())


def test_only_recipients_can_be_registered() -> None:
    proxy = RemoteProxy(Connection(), 5)
    with pytest.raises(ParamTypeError):
        proxy.register_death_recipient(object())  # type: ignore[arg-type]
    with pytest.raises(ParamTypeError):
        proxy.register_death_recipient(Recipient(), "0")  # type: ignore[arg-type]


def test_the_descriptor_is_asked_once() -> None:
    connection = Connection()
    proxy = RemoteProxy(connection, 5)
    assert proxy.get_descriptor() == proxy.get_descriptor() == "test.IFar"
    assert len(connection.calls) == 1
    assert "test.IFar" in repr(proxy)


def test_an_empty_descriptor_is_no_answer() -> None:
    with pytest.raises(CommunicationError, match="empty"):
        RemoteProxy(Connection(""), 5).get_descriptor()


@pytest.mark.parametrize("code", [0, -1, 0x01000000, 2**40])
def test_codes_that_may_not_be_sent(code: int) -> None:
    connection = Connection()
    with pytest.raises(InvalidCodeError):
        RemoteProxy(connection, 5).send_request(code, MessageSequence(), MessageSequence())
    assert connection.calls == []


def test_a_proxy_has_no_local_interface() -> None:
    proxy = RemoteProxy(Connection(), 5)
    with pytest.raises(OnlyRemoteObjectPermittedError):
        proxy.get_local_interface("test.IFar")
