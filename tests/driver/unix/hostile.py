"""A peer that says whatever a test tells it to: plain sockets and the frames of frame.py, nothing of the driver.

Owns: ``Hostile``, the raw client, and ``Victim``, a node with an honest client that must stay usable.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from binderkit.driver.unix import frame, handshake
from binderkit.driver.unix.node import Node
from binderkit.errors import DeadObjectError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence

ADD_ONE = 1
KEEP = 2
"""hold the remote object in the request"""
GIVE_BACK = 3
"""return the object that is held"""
SIZE_OF_RAW = 4
"""return the size of the raw data"""
HOLD_ONE_WAY = 5
"""one-way: wait at the gate"""
KEEP_RAW = 6
"""hold the view of the raw data"""
MAKE = 7
"""return a new object"""
READ_FD = 8
"""read from the descriptor in the request"""
BIG = 9
"""answer with so many bytes"""
NOTHING = 10
WAIT = 10.0
"""Seconds until something that must happen counts as not happening."""


class Service(RemoteObject):
    """What the victim offers."""

    def __init__(self) -> None:
        super().__init__("test.IVictim")
        self.kept: object = None
        self.raw: memoryview | None = None
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        if code == ADD_ONE:
            reply.write_int(data.read_int() + 1)
        elif code == KEEP:
            self.kept = data.read_remote_object()
        elif code == GIVE_BACK:
            assert isinstance(self.kept, (RemoteObject, RemoteProxy))
            reply.write_remote_object(self.kept)
        elif code == SIZE_OF_RAW:
            size = data.read_int()
            reply.write_int(len(data.read_raw_data_buffer(size)))
        elif code == HOLD_ONE_WAY:
            self.entered.release()
            if not self.gate.wait(WAIT):
                raise TimeoutError("nobody opened the gate")
        elif code == KEEP_RAW:
            self.raw = memoryview(data.read_raw_data_buffer(data.read_int()))
        elif code == MAKE:
            reply.write_remote_object(RemoteObject("test.IMade"))
        elif code == READ_FD:
            fd = data.read_file_descriptor()
            try:
                reply.write_string(os.read(fd, 100).decode())
            finally:
                os.close(fd)
        elif code == BIG:
            reply.write_string("x" * data.read_int())
        else:
            return code == NOTHING
        return True


def until(condition: Callable[[], object], what: str, seconds: float = WAIT) -> None:
    """Return when ``condition()`` is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.002)  # the interval between two looks at the condition


def add_one(proxy: RemoteProxy, number: int = 1) -> None:
    """Check that ``proxy`` answers."""
    data, reply = MessageSequence(), MessageSequence()
    data.write_int(number)
    proxy.send_request(ADD_ONE, data, reply, MessageOption(timeout=WAIT))
    assert reply.read_int() == number + 1


def join(owner: Node, guest: Node) -> RemoteProxy:
    """Connect two nodes of this process; return the guest's proxy of the owner's root."""
    ours, theirs = handshake.pair()
    owner.serve_root(theirs)
    return guest.join(ours)


class Victim:
    """A node that serves, an honest client of it, and what the log says."""

    def __init__(self) -> None:
        self.service = Service()
        self.node = Node(title="victim")
        self.node.become_context(self.service)
        self.client = Node(title="honest")
        self.proxy = join(self.node, self.client)
        add_one(self.proxy)

    def check_usable(self) -> None:
        """The honest client is served, on its connection and on a new one."""
        add_one(self.proxy)
        other = Node(title="newcomer")
        try:
            add_one(join(self.node, other))
        finally:
            other.close()

    def close(self) -> None:
        """End both nodes."""
        self.service.gate.set()
        self.client.close()
        self.node.close()


class Hostile:
    """A raw client on the other end of a connection the victim serves its root object on."""

    def __init__(self, victim: Victim, node_id: bytes | None = None) -> None:
        self.victim = victim
        self.node_id = os.urandom(16) if node_id is None else node_id
        self.sock, theirs = handshake.pair()
        self.sock.settimeout(WAIT)
        self.lanes: list[socket.socket] = []
        self.other: bytes = b""
        victim.node.serve_root(theirs)

    # --- the handshake ---------------------------------------------------------------------------

    def hello(self) -> None:
        """Exchange HELLO."""
        handshake.send_hello(self.sock, self.node_id)
        self.other, _ = handshake.receive_hello(self.sock)

    def shake(self) -> Hostile:
        """Become a proper peer; what follows is hostile."""
        self.hello()
        if self.node_id < self.other:
            self.sock.send(frame.encode_control(frame.DECIDE, count=1))
        granted = self.receive(frame.GRANTED)
        assert frame.decode_pairs(granted) == [(0, 1)]
        return self

    # --- control messages --------------------------------------------------------------------------

    def receive(self, kind: int) -> frame.Control:
        """Return the next control message of ``kind``, reading over others."""
        while True:
            packet = self.sock.recv(frame.CONTROL_MAX)
            assert packet, "the victim hung up"
            message = frame.decode_control(packet)
            if message.kind == kind:
                return message

    def post(self, kind: int, *pairs: tuple[int, int], fds: tuple[int, ...] = ()) -> None:
        """Send a list of pairs, with any descriptors."""
        self.raw(frame.encode_pairs(kind, list(pairs)), fds)

    def raw(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send anything on the control connection."""
        if fds:
            socket.send_fds(self.sock, [packet], list(fds))
        else:
            self.sock.send(packet)

    # --- lanes -------------------------------------------------------------------------------------

    def lane(self, kind: int = frame.LANE_SYNC, number: int | None = None) -> socket.socket:
        """Open a lane; return our end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(WAIT)
        self.lanes.append(ours)
        with theirs:
            self.post(frame.LANE, (len(self.lanes) if number is None else number, kind), fds=(theirs.fileno(),))
        return ours

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        for lane in self.lanes:
            lane.close()

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hung_up(self) -> bool:
        """Whether the victim closed the control connection, within WAIT."""
        poller = select.poll()
        poller.register(self.sock, 0)  # POLLHUP is always reported
        return bool(poller.poll(WAIT * 1000))


def call(
    data: bytes = b"",
    entries: list[frame.Entry] | None = None,
    *,
    kind: int = frame.CALL,
    flags: int = 0,
    seq: int = 1,
    handle: int = 0,
    code: int = ADD_ONE,
    freed: int = 0,
    fds: int = 0,
) -> bytes:
    """Return the packet of a call as an honest client would make it, unless told otherwise."""
    return frame.encode(kind, flags, seq, handle, code, 0, 1, freed, data, entries or [], fds)


def int_bytes(number: int) -> bytes:
    """Return an int of a data area."""
    return struct.pack("<i", number)


def failure_text(packet: bytes) -> str:
    """Return what a failed reply says."""
    got = frame.decode(packet)
    assert got.kind == frame.REPLY and got.flags & frame.FLAG_FAILED, got
    told = MessageSequence._received(got.data, None)
    return f"{told.read_string()}: {told.read_string()}"


def warned(records: list[logging.LogRecord], words: str) -> bool:
    """Whether a warning that contains ``words`` was logged."""
    return any(record.levelno >= logging.WARNING and words in record.getMessage() for record in list(records))


def dead(proxy: RemoteProxy) -> bool:
    """Whether a call says that the process is gone."""
    try:
        add_one(proxy)
    except DeadObjectError:
        return True
    return False


class HostileOwner:
    """A raw process that owns an object: what the victim calls. ``proxy`` is the victim's."""

    def __init__(self, node: Node, node_id: bytes | None = None) -> None:
        self.sock, theirs = handshake.pair()
        self.sock.settimeout(WAIT)
        self.lanes: dict[int, socket.socket] = {}
        self._spare: list[frame.Control] = []
        shaking = threading.Thread(target=self._shake, args=(os.urandom(16) if node_id is None else node_id,))
        shaking.start()
        try:
            self.proxy = node.join(theirs)
        finally:
            shaking.join()

    def _shake(self, node_id: bytes) -> None:
        handshake.send_hello(self.sock, node_id)
        other, _ = handshake.receive_hello(self.sock)
        if other < node_id:
            frame.decode_control(self.sock.recv(frame.CONTROL_MAX))  # DECIDE
        self.sock.send(frame.encode_pairs(frame.GRANTED, [(0, 1)]))

    def receive(self, kind: int) -> frame.Control:
        """Return the next control message of ``kind``; lanes that come meanwhile are kept."""
        for at, message in enumerate(self._spare):
            if message.kind == kind:
                return self._spare.pop(at)
        while True:
            packet, fds = handshake.receive_with_fds(self.sock, frame.CONTROL_MAX, 1)
            assert packet, "the victim hung up"
            message = frame.decode_control(packet)
            for fd in fds:
                lane = socket.socket(fileno=fd)
                lane.settimeout(WAIT)
                self.lanes[frame.decode_pairs(message)[0][0]] = lane
            if message.kind == kind:
                return message
            self._spare.append(message)

    def next_call(self) -> tuple[socket.socket, frame.Frame]:
        """Take a new lane and read the first call on it."""
        ((number, _),) = frame.decode_pairs(self.receive(frame.LANE))
        lane = self.lanes[number]
        return lane, frame.decode(lane.recv(frame.PACKET_MAX))

    def post(self, kind: int, *pairs: tuple[int, int]) -> None:
        """Send a list of pairs on the control connection."""
        self.sock.send(frame.encode_pairs(kind, list(pairs)))

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        for lane in self.lanes.values():
            lane.close()

    def __enter__(self) -> HostileOwner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reply_to(
    got: frame.Frame, data: bytes = b"", entries: list[frame.Entry] | None = None, *, flags: int = 0, fds: int = 0
) -> bytes:
    """Return the packet of a reply to ``got``."""
    return frame.encode(frame.REPLY, flags, got.seq, 0, 0, 0, 0, 0, data, entries or [], fds)


class Attempt(threading.Thread):
    """A call made by the victim on a thread of its own; ``error`` is what it raised."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action
        self.error: BaseException | None = None
        self.result: object = None
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self.result = self._action()
        except BaseException as error:
            self.error = error

    def over(self, seconds: float = WAIT) -> Attempt:
        """Wait for the end."""
        self.join(seconds)
        assert not self.is_alive(), "the call hangs"
        return self
