"""Descriptors in typed messages: what was read is closed when the rest of the message is malformed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import binderkit as bk
from binderkit.errors import CommunicationError, ParcelReadError
from binderkit.interface import Interface, Property, method, proxy, raises, watch
from binderkit.interface import codes as interface_codes
from binderkit.interface.codec import Fd
from binderkit.testing import loopback


@dataclass
class Spilled(Exception):
    fd: Fd
    why: str


class IFiles(Interface, descriptor="test.IFiles"):
    source = Property(tuple[Fd, int])

    @method
    def take(self, fd: Fd, name: str) -> None: ...
    @method
    def give(self) -> tuple[Fd, int]: ...
    @method
    @raises(Spilled)
    def spill(self) -> None: ...
    @method
    def several(self) -> Iterator[tuple[Fd, int]]: ...


class Liar(bk.RemoteObject):
    """Answers with a descriptor, and half of what has to follow it."""

    def __init__(self) -> None:
        super().__init__("test.IFiles")
        self.watcher: Any = None

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        token = data.read_interface_token()
        if code == interface_codes.WATCH:
            data.read_string()
            self.watcher = data.read_remote_object()
        elif token == interface_codes.STREAM:
            reply.write_boolean(True)
            self._half(reply)
        elif code == IFiles.__contract__.methods["spill"].code:
            reply.write_int(interface_codes.RAISED)
            self._half(reply)
        elif code == IFiles.__contract__.methods["several"].code:
            reply.write_int(0)
            reply.write_remote_object(self)
        else:
            reply.write_int(0)
            self._half(reply)
        return True

    def _half(self, reply: bk.MessageSequence) -> None:
        with open(os.devnull) as file:
            reply.write_file_descriptor(file.fileno())
        reply.write_byte(1)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def call_of(typed: IFiles, name: str) -> Callable[[], object]:
    calls: dict[str, Callable[[], object]] = {
        "result": typed.give,
        "exception": typed.spill,
        "item of a stream": lambda: next(iter(typed.several())),
        "property": lambda: typed.source,
    }
    return calls[name]


@pytest.mark.parametrize("name", ["result", "exception", "item of a stream", "property"])
def test_a_truncated_answer_closes_what_it_brought(name: str) -> None:
    with loopback() as pair:
        typed = proxy(IFiles, pair.offer(Liar()))
        call = call_of(typed, name)
        before = open_descriptors()
        for _ in range(5):
            with pytest.raises((ParcelReadError, CommunicationError)):
                call()
        assert open_descriptors() == before


class Files(IFiles):
    def take(self, fd: Fd, name: str) -> None:
        raise AssertionError("a malformed call reached the method")

    def give(self) -> tuple[Fd, int]:
        raise NotImplementedError

    def spill(self) -> None:
        raise NotImplementedError

    def several(self) -> Iterator[tuple[Fd, int]]:
        raise NotImplementedError


@pytest.mark.parametrize("what", ["take", "source"])
def test_a_truncated_call_closes_what_it_brought(what: str) -> None:
    contract = IFiles.__contract__
    code = contract.methods["take"].code if what == "take" else contract.properties["source"].setter
    with loopback() as pair:
        remote = pair.offer(Files())
        before = open_descriptors()
        for _ in range(5):
            data = bk.MessageSequence()
            data.write_interface_token(contract.descriptor)
            with open(os.devnull) as file:
                data.write_file_descriptor(file.fileno())
            data.write_byte(1)
            with pytest.raises(bk.RemoteError, match="ParcelReadError"):
                remote.send_request(code, data, bk.MessageSequence())
            data.reclaim()
        assert open_descriptors() == before


def test_a_truncated_change_closes_what_it_brought(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # a warning's traceback would hold the watcher
    liar = Liar()
    with loopback() as pair:
        typed = proxy(IFiles, pair.offer(liar))
        with watch(typed, IFiles.source, lambda value: pytest.fail("a malformed change reached the callback")):
            before = open_descriptors()
            for _ in range(5):
                data = bk.MessageSequence()
                data.write_interface_token(interface_codes.WATCHER)
                with open(os.devnull) as file:
                    data.write_file_descriptor(file.fileno())
                data.write_byte(1)
                with pytest.raises(bk.RemoteError, match="ParcelReadError"):
                    liar.watcher.send_request(interface_codes.CHANGED, data, bk.MessageSequence())
                data.reclaim()
            assert open_descriptors() == before
        liar.watcher = None
