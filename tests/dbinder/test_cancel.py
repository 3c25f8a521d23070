"""A caller that gives up: the handler on the other device is told, so that it does not work on for nobody."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import binderkit as bk
from binderkit.errors import CallTimeoutError
from tests.dbinder.devices import running
from tests.dbinder.real import ABILITY
from tests.dbinder.service import Code, Service


class Patient(Service):
    """Waits in ECHO until its call is cancelled, and notes it."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = threading.Event()
        self.give_up = threading.Event()

    def echo(self, data: Any, reply: Any) -> None:
        self.entered.release()
        while not bk.IPCSkeleton.is_call_cancelled():
            if self.give_up.wait(0.005):
                return
        self.cancelled.set()


def test_the_handler_hears_that_its_caller_gave_up() -> None:
    with running("a", "b") as devices:
        a, b = devices.all
        service = Patient()
        b.offer(ABILITY, service, b.app())
        proxy = a.get(b, ABILITY, a.app())
        try:
            with pytest.raises(CallTimeoutError):
                proxy.send_request(Code.ECHO, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption(timeout=0.2))
            assert service.cancelled.wait(3)
        finally:
            service.give_up.set()
        del proxy
        devices.nothing_held()
