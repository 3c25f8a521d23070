"""What a call costs beside Python: the system calls it makes, and no ctypes object."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import binderkit as bk
from binderkit.driver.kernel import device as device_module
from binderkit.driver.kernel import node as node_module
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.node import KernelNode
from binderkit.driver.kernel.serve import serve
from binderkit.driver.kernel.target import Target
from binderkit.ipc.proxy import RemoteProxy

BODY_AT = 4096
BODY = struct.pack("<i", 16) + bytes(range(16))
KIND = bk.TypeCode.UINT8_ARRAY
NOTHING = struct.pack("=I", p.BR_NOOP)
RECEIPT = struct.pack("=II", p.BR_NOOP, p.BR_TRANSACTION_COMPLETE)


class Echo(bk.RemoteObject):
    """Sends bytes back."""

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        reply.write_array_buffer(data.read_array_buffer(KIND), KIND)
        return True


class Canned(device_module.Device):
    """A device that is memory of ours; its kernel is ``Kernel``."""

    def __init__(self, path: str) -> None:
        self.path, self.pid, self._closed = path, os.getpid(), False
        self.fd = os.open("/dev/null", os.O_RDWR)
        self.mapping = bytearray(1 << 16)
        self.mapping[BODY_AT : BODY_AT + len(BODY)] = BODY
        self._base = self.base = ctypes.addressof((ctypes.c_char * len(self.mapping)).from_buffer(self.mapping))
        self.memory = memoryview(self.mapping).toreadonly()
        self.ended = threading.Event()

    def wake_all(self) -> None:
        self.ended.set()

    def close(self) -> None:
        os.close(self.fd)

    def transaction(self, word: int) -> bytes:
        at = self.base + BODY_AT
        return p.COMMAND_TRANSACTION.pack(word, 0, 0, 1, p.TF_ACCEPT_FDS, 1, 0, len(BODY), 0, at, at + len(BODY))


class Kernel:
    """Answers the system calls of this thread with what the test says; loopers wait for the end."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.answers: list[bytes] = []
        self.calls: list[int] = []
        self.device: Canned | None = None

    def ioctl(self, fd: int, request: int, argument: bytearray, mutate: bool = False) -> int:
        if request != p.BINDER_WRITE_READ:
            return 0
        answer = NOTHING
        if threading.get_ident() != self.thread:
            assert self.device is not None
            self.device.ended.wait()
        else:
            self.calls.append(request)
            answer = self.answers.pop(0)
        _, _, _, room, _, address = p.WRITE_READ.unpack(argument)
        assert room >= len(answer)
        ctypes.memmove(address, answer, len(answer))
        p.POINTER.pack_into(argument, p.READ_CONSUMED_AT, len(answer))
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(device_module, "_ioctl", kernel.ioctl)
    monkeypatch.setattr(node_module, "Device", Canned)
    return kernel


@pytest.fixture
def node(kernel: Kernel) -> Iterator[KernelNode]:
    real = Canned.__init__

    def made(self: Canned, path: str) -> None:
        real(self, path)
        kernel.device = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Canned, "__init__", made)
        node = KernelNode("/dev/canned")
    yield node
    node.close()


@pytest.fixture
def no_ctypes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """``forbid()``: from now on the driver has no ctypes."""
    return SimpleNamespace(forbid=lambda: monkeypatch.setattr(device_module, "ctypes", None))


def test_a_call_is_one_system_call_and_makes_no_ctypes_object(
    kernel: Kernel, node: KernelNode, no_ctypes: SimpleNamespace
) -> None:
    target = Target(node, 5, 1, 0)
    proxy = RemoteProxy(target, 5)
    assert kernel.device is not None
    answer = RECEIPT + kernel.device.transaction(p.BR_REPLY)

    def echo() -> bytes:
        data, reply = bk.MessageSequence(), bk.MessageSequence()
        data.write_array_buffer(bytes(16), KIND)
        proxy.send_request(1, data, reply)
        return bytes(reply.read_array_buffer(KIND))

    kernel.answers = [answer] * 51
    assert echo() == BODY[4:]  # makes this thread's buffers
    no_ctypes.forbid()
    kernel.calls.clear()
    assert all(echo() == BODY[4:] for _ in range(50))
    assert len(kernel.calls) == 50


def test_a_request_is_two_system_calls_and_makes_no_ctypes_object(
    kernel: Kernel, node: KernelNode, no_ctypes: SimpleNamespace
) -> None:
    """One brings the receipt of the last reply, which the kernel gives out by itself, one the next request."""
    node.nodes.set_root(Echo("echo"))
    assert kernel.device is not None
    request = NOTHING + kernel.device.transaction(p.BR_TRANSACTION)
    kernel.answers = [RECEIPT, request] * 51
    channel = node.channel()

    def handle() -> None:
        assert node.read(channel) == (p.BR_TRANSACTION_COMPLETE, None)
        word, transaction = node.read(channel)
        assert word == p.BR_TRANSACTION
        serve(node, channel, transaction)
        assert len(channel.out) > len(BODY)  # the buffer given back, and the reply

    handle()
    no_ctypes.forbid()
    kernel.calls.clear()
    for _ in range(50):
        handle()
    assert len(kernel.calls) == 100
    channel.out.clear()
