"""The bytes of requests and replies, as a C++ service made by OpenHarmony's tool reads and writes them (reference 5.6).

All expected bytes are put together here with struct; nothing of binderkit takes part in making them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from binderkit import MessageOption, MessageSequence, RemoteObject
from binderkit.interface import proxy
from tests.interface.idl.golden.callback.i_media_callback import IMediaCallback
from tests.interface.idl.golden.i_base import IBase
from tests.interface.idl.golden.i_media import Blob, IMedia
from tests.interface.idl.golden.media_types import Format, Frame, Level, Size


def string(text: str) -> bytes:
    """String16: int32 units, the units, a NUL of two bytes, padding (reference 1.1)."""
    data = text.encode("utf-16-le") + b"\0\0"
    return struct.pack("<i", len(text.encode("utf-16-le")) // 2) + data + b"\0" * (-len(data) % 4)


def token(descriptor: str) -> bytes:
    """Strict policy, work source, descriptor (reference 1.1)."""
    return struct.pack("<ii", 0x100, 0) + string(descriptor)


MEDIA = token("ohos.media.IMedia")
FRAME = Frame(640, 480, Format.YUV, -5, ["a", "bc"], {"k": 0.5}, True, [[1, -2], []])
FRAME_BYTES = (
    struct.pack("<IIiq", 640, 480, 6, -5)
    + struct.pack("<i", 2)
    + string("a")
    + string("bc")
    + struct.pack("<i", 1)
    + string("k")
    + struct.pack("<d", 0.5)
    + struct.pack("<i", 1)
    + struct.pack("<i", 2)
    + struct.pack("<iii", 2, 1, -2)
    + struct.pack("<i", 0)
)


class Recorder(RemoteObject):
    """Stands for the C++ service: keeps the request's bytes and answers with given ones."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("ohos.media.IMedia")
        self.reply = reply
        self.code = 0
        self.request = b""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        self.code = code
        self.request = bytes(data)
        for (word,) in struct.iter_unpack("<i", self.reply):
            reply.write_int(word)
        return True


class Media(IMedia):
    """The service in Python; keeps what its methods were given."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.answer: Any = None

    def _call(self, *given: Any) -> Any:
        self.given = given
        return self.answer


def _method(name: str) -> Any:
    def call(self: Media, *given: Any) -> Any:
        return self._call(*given)

    call.__name__ = name
    return call


Serving: type[Media] = type(
    "Serving",
    (Media,),
    {name: _method(name) for name in (*IMedia.__contract__.methods, *IBase.__contract__.methods)},
)

OK = struct.pack("<i", 0)
CASES: list[tuple[str, int, tuple[Any, ...], bytes, Any, bytes]] = [
    # method, code, arguments, request behind the token, result, reply
    ("ping", 1, (), b"", None, OK),
    (
        "basics",
        3,
        (True, -1, -2, -3, -4, 1.5, 2.5, 65),
        struct.pack("<iiiiqfdi", 1, -1, -2, -3, -4, 1.5, 2.5, 65),
        None,
        OK,
    ),
    (
        "unsigneds",
        4,
        (255, 65535, 2**32 - 1, 2**64 - 1),
        struct.pack("<IIIQ", 255, 65535, 2**32 - 1, 2**64 - 1),
        None,
        OK,
    ),
    ("strings", 5, ("a", "", "äö"), string("a") + string("") + string("äö"), "back", OK + string("back")),
    # int divide(in dividend, in divisor, out remainder): the out parameter, then the result.
    ("divide", 20, (7, 2), struct.pack("<ii", 7, 2), (1, 3), struct.pack("<iii", 0, 1, 3)),
    # int getHTTPStatus(inout long counter, out String text, in boolean again)
    (
        "get_http_status",
        21,
        (41, True),
        struct.pack("<qi", 41, 1),
        (42, "fine", 200),
        struct.pack("<iq", 0, 42) + string("fine") + struct.pack("<i", 200),
    ),
    ("size_of", 0x30, (FRAME,), FRAME_BYTES, Size(640, 480), struct.pack("<iII", 0, 640, 480)),
    (
        "configure",
        0x31,
        ({"x": [1, 2]}, {Size(3, 4)}, {5: Level(bits=0x0102030405060708)}),
        struct.pack("<i", 1)
        + string("x")
        + struct.pack("<iii", 2, 1, 2)
        + struct.pack("<iII", 1, 3, 4)
        + struct.pack("<iiQ", 1, 5, 0x0102030405060708),
        None,
        OK,
    ),
    ("overloaded_string", 0x33, ("s",), string("s"), None, OK),
    (
        "overloaded_list_map_int_string",
        0x34,
        (),
        b"",
        [{1: "x"}, {}],
        struct.pack("<iiii", 0, 2, 1, 1) + string("x") + struct.pack("<i", 0),
    ),
    ("blob", 0x37, (Blob.of(b"abc"),), struct.pack("<Ii", 3, 3) + b"abc\0", Blob.of(b""), struct.pack("<iIi", 0, 0, 0)),
    ("list_", 0x39, ([[1], [2, 3]],), struct.pack("<iiiiii", 2, 1, 1, 2, 2, 3), None, OK),
]
IDS = [case[0] for case in CASES]


@pytest.mark.parametrize(("name", "code", "arguments", "request_bytes", "result", "reply_bytes"), CASES, ids=IDS)
def test_a_client_in_python_speaks_to_a_service_in_cpp(
    name: str, code: int, arguments: tuple[Any, ...], request_bytes: bytes, result: Any, reply_bytes: bytes
) -> None:
    service = Recorder(reply_bytes)

    assert getattr(proxy(IMedia, service), name)(*arguments) == result
    assert (service.code, service.request) == (code, MEDIA + request_bytes)


@pytest.mark.parametrize(("name", "code", "arguments", "request_bytes", "result", "reply_bytes"), CASES, ids=IDS)
def test_a_client_in_cpp_speaks_to_a_service_in_python(
    name: str, code: int, arguments: tuple[Any, ...], request_bytes: bytes, result: Any, reply_bytes: bytes
) -> None:
    service = Serving()
    service.answer = result

    with sent(service, code, MEDIA + request_bytes) as reply:
        assert service.given == arguments
        assert reply == reply_bytes


@contextmanager
def sent(service: RemoteObject, code: int, request: bytes) -> Iterator[bytes]:
    with MessageSequence() as data, MessageSequence() as reply:
        for (word,) in struct.iter_unpack("<i", request):
            data.write_int(word)
        assert service.send_request(code, data, reply) == 0
        yield bytes(reply)


def test_a_method_of_the_base_is_sent_with_the_descriptor_of_the_base() -> None:
    service = Recorder(struct.pack("<ii", 0, 5))

    assert proxy(IMedia, service).version() == 5
    assert (service.code, service.request) == (1, token("com.example.legacy.Base"))


def test_a_null_pointer_is_a_marker_of_zero() -> None:
    """null_sharedptr: a bool whether it is there, then the value (reference 5.5)."""
    service = Serving()
    parcelable = struct.pack("<i", 0)  # a null fallback
    frames = struct.pack("<i", 1) + FRAME_BYTES
    with MessageSequence() as data, MessageSequence() as reply:
        for (word,) in struct.iter_unpack("<i", token("ohos.media.IMedia") + parcelable + frames):
            data.write_int(word)
        contract = IMedia.__contract__.methods["find"]
        data.read_interface_token()
        assert contract.parameters[1].codec.read(data) is None
        assert contract.parameters[2].codec.read(data) == [FRAME]
        assert contract.result is not None
        contract.result.write(reply, None)
        contract.result.write(reply, FRAME)
        assert bytes(reply) == struct.pack("<ii", 0, 1) + FRAME_BYTES
    assert service.given == ()


def test_one_way_requests_have_the_same_layout() -> None:
    service = Recorder(OK)
    proxy(IMediaCallback, service).on_end(-9)

    assert (service.code, service.request) == (2, token("ohos.media.callback.IMediaCallback") + struct.pack("<i", -9))
