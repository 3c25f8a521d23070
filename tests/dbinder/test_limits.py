"""The four limits, with real local drivers on both ends: refused at the sender, with a code, and what to do instead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.driver.unix import handshake
from binderkit.driver.unix.node import Node
from binderkit.errors import IpcError, RpcLimitError, TooBigError
from tests.dbinder.devices import Recipient
from tests.dbinder.real import Real
from tests.dbinder.service import Code, Service, call, echo


@pytest.fixture
def real() -> Iterator[Real]:
    real = Real("tests.dbinder.child:trusting")
    try:
        yield real
    finally:
        real.close()


class Sent:
    """What left device a."""

    def __init__(self, real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages = 0
        for name in ("call", "send"):
            monkeypatch.setattr(real.a_calls, name, self._counted(getattr(real.a_calls, name)))

    def _counted(self, original: Any) -> Any:
        def send(*arguments: Any, **named: Any) -> Any:
            self.messages += 1
            return original(*arguments, **named)

        return send


def refused(error: IpcError, code: int, *words: str) -> None:
    """The error has the code, and says what to do."""
    assert error.code == code
    for word in words:
        assert word in str(error), error


def test_limit_1_a_message_holds_200_kb_unless_it_is_told_that_it_goes_far(
    real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, sent = real.get(), Sent(real, monkeypatch)
    data = bk.MessageSequence()
    with pytest.raises(TooBigError) as caught:
        data.write_long_array([0] * (200 * limits.KIB // 8))
    refused(caught.value, 1900009, "204800")
    assert sent.messages == 0 and echo(proxy) == "hello"


def test_limit_1_a_mebibyte_goes_to_another_device_and_more_does_not(
    real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, sent = real.get(), Sent(real, monkeypatch)

    def filled(size: int) -> bk.MessageSequence:
        data = bk.MessageSequence()
        data.set_capacity(limits.MAX_CAPACITY)
        data.write_string("hello")
        data.write_long_array([0] * ((size - data.get_size() - 4) // 8))
        assert size - 8 < data.get_size() <= size
        return data

    reply = bk.MessageSequence()
    proxy.send_request(Code.ECHO, filled(limits.RPC_DATA), reply)
    assert reply.read_string() == "hello" and sent.messages == 1
    with pytest.raises(TooBigError) as caught:
        proxy.send_request(Code.ECHO, filled(limits.RPC_DATA + 16), bk.MessageSequence())
    refused(caught.value, 1900009, "raw data", "Ashmem")
    assert sent.messages == 1


def test_limit_2_the_death_of_an_anonymous_object_is_not_told(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    ability = real.get()
    anonymous = call(ability, Code.GIVE).read_remote_object()
    sent, recipient = Sent(real, monkeypatch), Recipient()
    with pytest.raises(RpcLimitError) as caught:
        anonymous.register_death_recipient(recipient)
    refused(caught.value, 510, "add_system_ability", "ping")
    assert sent.messages == 0 and anonymous.unregister_death_recipient(recipient) is False
    ability.register_death_recipient(recipient)  # a registered one is told
    assert sent.messages == 1
    real.child.kill()
    assert recipient.event.wait(5) and recipient.told == 1


def test_limit_3_a_proxy_does_not_go_home(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = real.get()
    given = call(proxy, Code.GIVE).read_remote_object()
    sent = Sent(real, monkeypatch)
    for own in (given, proxy):
        with pytest.raises(RpcLimitError) as caught:
            call(proxy, Code.KEEP, lambda data, own=own: data.write_remote_object(own))
        refused(caught.value, 505, "cannot be sent back", "a name or number")
    assert sent.messages == 0
    assert echo(given) == "hello"  # it is as good as before


def test_limit_3_nor_in_a_reply(real: Real) -> None:
    proxy = real.get()
    call(proxy, Code.KEEP, lambda data: data.write_remote_object(Service("test.IMine")))
    with pytest.raises(RpcLimitError) as caught:
        call(proxy, Code.GIVE_KEPT)
    refused(caught.value, 505, "cannot be sent back", "a name or number")
    call(proxy, Code.DROP)


def test_limit_4_a_proxy_is_not_passed_on(real: Real) -> None:
    """Neither as an argument nor as a result, and the neighbour gets nothing of the message."""
    proxy = real.get()
    neighbour, service = Node(title="neighbour"), Service()
    try:
        neighbour.become_context(service)
        ours, theirs = handshake.pair()
        neighbour.serve_root(theirs)
        local = real.app.join(ours)
        mine = Service()

        def both(data: Any) -> None:
            data.write_remote_object(mine)
            data.write_remote_object(proxy)

        for write in (lambda data: data.write_remote_object(proxy), both):
            with pytest.raises(RpcLimitError) as caught:
                call(local, Code.KEEP, write)
            refused(caught.value, 407, "get the object itself", "device_id=")
        assert service.kept == []
        assert echo(proxy) == "hello"
    finally:
        neighbour.close()


def test_a_descriptor_stays_on_its_device(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, sent = real.get(), Sent(real, monkeypatch)
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(RpcLimitError) as caught:
            call(proxy, Code.TAKE_FD, lambda data: data.write_file_descriptor(read_end))
    finally:
        os.close(read_end)
        os.close(write_end)
    refused(caught.value, 507, "contents", "SoftBus session")
    assert sent.messages == 0
