"""RpcProxy: what differs from a proxy of this device, against stand-ins that forward nowhere."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import (
    DeadObjectError,
    InvalidCodeError,
    ParamTypeError,
    RpcLimitError,
    TooBigError,
)
from binderkit.ipc.proxy import OBITUARY_TRANSACTION
from binderkit.ipc.remote import ForeignObject
from binderkit.ipc.rpc_proxy import DIED, RpcProxy, is_shared_memory
from binderkit.parcel.objects import OwnedFd


class Foreign(ForeignObject):
    """Stands for an object of nowhere; echoes, and keeps who is to be told of its death."""

    def __init__(self) -> None:
        super().__init__("test.IForeign")
        self.notices: list[Any] = []
        self.refusal: Exception | None = None
        self.remaining: list[float | None] = []

    def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> bool:
        self.remaining.append(bk.IPCSkeleton.get_remaining_time())
        reply.write_string(data.read_string())
        return True

    def on_reserved(self, code: int, data: Any, reply: Any) -> bool:
        if code == OBITUARY_TRANSACTION:
            if self.refusal is not None:
                raise self.refusal
            self.notices.append(data.read_remote_object())
        return True

    def tell(self) -> None:
        for notice in self.notices:
            notice.send_request(DIED, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption(1))


class Recipient(bk.DeathRecipient):
    def __init__(self) -> None:
        self.told = 0

    def on_remote_died(self) -> None:
        self.told += 1


@pytest.fixture
def network() -> Iterator[LoopbackNetwork]:
    with LoopbackNetwork() as network:
        yield network


@pytest.fixture
def foreign() -> Foreign:
    return Foreign()


@pytest.fixture
def proxy(network: LoopbackNetwork, foreign: Foreign) -> RpcProxy:
    proxy = network.process().offer(foreign, network.process())
    assert isinstance(proxy, RpcProxy)
    return proxy


def message(text: str = "hello") -> bk.MessageSequence:
    data = bk.MessageSequence()
    data.write_string(text)
    return data


def test_its_handle_tells_what_it_is(proxy: RpcProxy) -> None:
    assert proxy._handle > limits.RPC_HANDLE_BASE


def test_calls_wait_8_seconds_by_default(proxy: RpcProxy, foreign: Foreign) -> None:
    proxy.send_request(1, message(), bk.MessageSequence())
    proxy.send_request(1, message(), bk.MessageSequence(), bk.MessageOption(wait_time=100))
    proxy.send_request(1, message(), bk.MessageSequence(), bk.MessageOption(wait_time=100, timeout=5))
    for given, limit in zip(foreign.remaining, (8, 100, 5), strict=True):
        assert given is not None
        assert limit - 1 < given <= limit


def test_a_coroutine_calls_it_too(proxy: RpcProxy, foreign: Foreign) -> None:
    reply = bk.MessageSequence()
    result = asyncio.run(proxy.send_message_request(1, message(), reply))
    assert result.reply.read_string() == "hello"
    assert foreign.remaining[0] is not None
    with pytest.raises(InvalidCodeError):
        asyncio.run(proxy.send_message_request(0, message(), reply))


def test_it_is_freed_with_its_last_holder(network: LoopbackNetwork) -> None:
    foreign = Foreign()
    proxy = network.process().offer(foreign, network.process())
    proxy.register_death_recipient(Recipient())
    known, stub = weakref.ref(proxy), weakref.ref(foreign)
    gc.disable()
    try:
        del proxy
        assert known() is None, "no cycle keeps it"
    finally:
        gc.enable()
    del foreign
    network.flush()
    gc.collect()
    network.flush()
    assert stub() is None


def test_too_much_data_is_not_sent(proxy: RpcProxy, foreign: Foreign) -> None:
    data = bk.MessageSequence()
    data.set_capacity(limits.MAX_CAPACITY)
    data.write_long_array([0] * (limits.RPC_DATA // 8))
    with pytest.raises(TooBigError, match="send large parts as raw data"):
        proxy.send_request(1, data, bk.MessageSequence())
    assert foreign.remaining == []


def test_a_descriptor_is_not_sent_but_an_ashmem_is(proxy: RpcProxy, foreign: Foreign) -> None:
    data = message()
    data.write_file_descriptor(0)
    with pytest.raises(RpcLimitError) as caught:
        proxy.send_request(1, data, bk.MessageSequence())
    assert caught.value.code == 507
    assert foreign.remaining == []
    with bk.Ashmem.create("test", 10) as memory:
        data = message()
        data.write_ashmem(memory)
        proxy.send_request(1, data, bk.MessageSequence())
    assert len(foreign.remaining) == 1


def test_what_looks_like_an_ashmem() -> None:
    record = bytes(24)
    with bk.Ashmem.create("test", 10) as memory, OwnedFd(memory._dup()) as good:
        assert is_shared_memory(record + (10).to_bytes(4, "little"), 0, good)
        assert not is_shared_memory(record + bytes(4), 0, good)
        assert not is_shared_memory(record, 0, good)
    with OwnedFd(os.memfd_create("not sealed", os.MFD_ALLOW_SEALING)) as bad:
        assert not is_shared_memory(record + (10).to_bytes(4, "little"), 0, bad)


def test_death_is_told_once(proxy: RpcProxy, foreign: Foreign, network: LoopbackNetwork) -> None:
    first, second = Recipient(), Recipient()
    for recipient in (first, second, second):
        proxy.register_death_recipient(recipient)
    assert len(foreign.notices) == 1
    assert proxy.unregister_death_recipient(second)
    proxy.died()
    proxy.died()
    assert (first.told, second.told) == (1, 1)
    assert proxy.is_object_dead()
    with pytest.raises(DeadObjectError):
        proxy.register_death_recipient(first)
    assert "dead" not in repr(foreign)


def test_death_is_told_through_the_notice(proxy: RpcProxy, foreign: Foreign) -> None:
    recipient = Recipient()
    proxy.register_death_recipient(recipient)
    notice = foreign.notices[0]
    with pytest.raises(bk.RemoteError):
        notice.send_request(2, bk.MessageSequence(), bk.MessageSequence())
    notice.send_request(DIED, bk.MessageSequence(), bk.MessageSequence())
    assert recipient.told == 1


def test_a_registration_that_was_refused_leaves_nothing(proxy: RpcProxy, foreign: Foreign) -> None:
    foreign.refusal = RpcLimitError("anonymous", code=510)
    recipient = Recipient()
    with pytest.raises(RpcLimitError):
        proxy.register_death_recipient(recipient)
    assert not proxy.has_recipients
    with pytest.raises(ParamTypeError):
        proxy.register_death_recipient("nobody")  # type: ignore[arg-type]


def test_the_end_of_the_process_that_speaks_for_the_device(network: LoopbackNetwork) -> None:
    gateway = network.process()
    proxy = gateway.offer(Foreign(), network.process())
    recipient = Recipient()
    proxy.register_death_recipient(recipient)
    gateway.kill()
    assert proxy.is_object_dead()
    with pytest.raises(DeadObjectError):
        proxy.send_request(1, message(), bk.MessageSequence())
