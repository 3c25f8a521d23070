"""RemoteStub: a stand-in without a device behind it."""

from __future__ import annotations

from typing import Any

import pytest

import binderkit as bk
from binderkit.dbinder.stub import RemoteStub
from binderkit.dbinder.wire import ObjectRef
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import ParamTypeError, RefusedError, RpcLimitError
from binderkit.ipc.dispatch import Forwarded
from binderkit.ipc.proxy import (
    DUMP_TRANSACTION,
    INTERFACE_TRANSACTION,
    OBITUARY_TRANSACTION,
    PING_TRANSACTION,
    SYNCHRONIZE_REFERENCE,
)
from binderkit.ipc.rpc_proxy import DIED
from tests.dbinder.devices import eventually

DEVICE = "ab" * 32


class Service:
    """Notes what is forwarded and watched."""

    def __init__(self) -> None:
        self.forwarded: list[tuple[int, bool]] = []
        self.watched = 0
        self.failure: Exception | None = None

    def forward(self, stub: RemoteStub, code: int, data: Any, reply: Any, *, oneway: bool) -> None:
        self.forwarded.append((code, oneway))
        if code == INTERFACE_TRANSACTION:
            reply.write_string("test.IAsked")

    def watch(self, stub: RemoteStub) -> None:
        self.watched += 1
        if self.failure is not None:
            raise self.failure


class Notice(bk.RemoteObject):
    def __init__(self) -> None:
        super().__init__("test.INotice")
        self.told: list[int] = []

    def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> bool:
        self.told.append(code)
        return True


@pytest.fixture
def service() -> Service:
    return Service()


def stub_of(service: Any, *, ability: bool = True, descriptor: str = "test.I") -> RemoteStub:
    return RemoteStub(service, ObjectRef(DEVICE, 5, ability, descriptor), 1)


def reserved(stub: RemoteStub, code: int, *objects: Any) -> bk.MessageSequence:
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    for thing in objects:
        data.write_remote_object(thing)
    stub.on_reserved(code, data, reply)
    return reply


def test_calls_are_forwarded(service: Service) -> None:
    stub = stub_of(service)
    for flags in (0, 1):
        assert stub.on_remote_message_request(7, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption(flags))
    reserved(stub, PING_TRANSACTION)
    assert service.forwarded == [(7, False), (7, True), (PING_TRANSACTION, False)]


def test_what_is_known_is_not_asked(service: Service) -> None:
    assert reserved(stub_of(service), INTERFACE_TRANSACTION).read_string() == "test.I"
    assert reserved(stub_of(service), SYNCHRONIZE_REFERENCE).read_int() > 0
    assert service.forwarded == []
    unknown = stub_of(service, descriptor="")
    for _ in range(2):
        assert reserved(unknown, INTERFACE_TRANSACTION).read_string() == "test.IAsked"
    assert len(service.forwarded) == 1


def test_nothing_else_goes_to_another_device(service: Service) -> None:
    for code in (DUMP_TRANSACTION, 0x5F525043, 0x7FFFFFFF):
        with pytest.raises(RefusedError, match="ask on that device"):
            reserved(stub_of(service), code)


def test_it_learns_more_of_the_object(service: Service) -> None:
    stub = stub_of(service, ability=False, descriptor="")
    stub.learn(ObjectRef(DEVICE, 5, True, "test.I"))
    stub.learn(ObjectRef(DEVICE, 5, False, ""))
    assert stub.ability
    assert stub.get_descriptor() == "test.I"


def test_the_death_of_an_anonymous_object_is_refused(service: Service) -> None:
    with LoopbackNetwork() as network:
        notice = network.process().offer(Notice(), network.process())
        with pytest.raises(RpcLimitError, match="anonymous") as caught:
            reserved(stub_of(service, ability=False), OBITUARY_TRANSACTION, notice)
    assert caught.value.code == 510
    assert service.watched == 0


def test_everybody_who_asked_is_told_once(service: Service) -> None:
    with LoopbackNetwork() as network:
        stub, notices = stub_of(service), [Notice(), Notice()]
        gateway = network.process()
        proxies = [network.process().offer(notice, gateway) for notice in notices]
        for proxy in proxies:
            reserved(stub, OBITUARY_TRANSACTION, proxy)
        assert service.watched == 1
        stub.died("it ended")
        stub.died("and again")
        assert stub.is_object_dead()
        eventually(lambda: [notice.told for notice in notices] == [[DIED], [DIED]], "both were told")


def test_a_dead_object_is_not_called(service: Service) -> None:
    stub = stub_of(service, descriptor="")
    stub.died("it ended")
    for attempt in (
        lambda: stub.on_remote_message_request(1, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption()),
        lambda: reserved(stub, PING_TRANSACTION),
        lambda: reserved(stub, INTERFACE_TRANSACTION),
    ):
        with pytest.raises(Forwarded) as caught:
            attempt()
        assert caught.value.failure.status == -32
        assert "it ended" in caught.value.failure.text
    assert service.forwarded == []


def test_a_watch_that_failed_is_forgotten(service: Service) -> None:
    service.failure = RefusedError("no")
    with LoopbackNetwork() as network:
        proxy = network.process().offer(Notice(), network.process())
        stub = stub_of(service)
        for _ in range(2):
            with pytest.raises(RefusedError):
                reserved(stub, OBITUARY_TRANSACTION, proxy)
        assert stub._notices == []
        assert service.watched == 2


def test_a_notice_is_an_object_of_who_asks(service: Service) -> None:
    with pytest.raises(ParamTypeError):
        reserved(stub_of(service), OBITUARY_TRANSACTION, Notice())
