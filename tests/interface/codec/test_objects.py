"""Descriptors, files, Ashmem, remote objects, Parcelables; and that nothing stays open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParcelReadError, ParcelWriteError
from binderkit.interface import Interface, method, proxy
from binderkit.interface.codec import Fd, MismatchType, MismatchValue, OwnedFd, closing_on_error, codec_for
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_FD, KIND_REMOTE, RECORD_SIZE
from tests.interface.codec.wire import examples, int32, malformed, refused, survives


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def _open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def _number_of_open_descriptors() -> int:
    return len(_open_descriptors())


def _through(hint: Any, value: Any) -> Any:
    codec = codec_for(hint)
    with MessageSequence() as sequence:
        codec.write(sequence, value)
        assert sequence.get_size() >= codec.minimum
        return codec.read(sequence)


# --- descriptors ----------------------------------------------------------------------------------------------


def test_fd(pipe: tuple[int, int]) -> None:
    fd = _through(Fd, Fd(pipe[1]))
    assert type(fd) is int and fd not in pipe
    os.write(fd, b"x")
    os.close(fd)
    assert os.read(pipe[0], 10) == b"x"


def test_owned_fd_closes_itself(pipe: tuple[int, int]) -> None:
    before = _number_of_open_descriptors()
    own = OwnedFd(os.dup(pipe[1]))
    received = _through(OwnedFd, own)
    os.write(received.fileno(), b"x")
    assert os.read(pipe[0], 10) == b"x"
    del received, own
    assert _number_of_open_descriptors() == before


def test_descriptors_that_do_not_fit(pipe: tuple[int, int]) -> None:
    for wrong in ("x", True, None, 1.0):
        assert isinstance(refused(Fd, wrong), MismatchType)
    assert isinstance(refused(OwnedFd, pipe[0]), MismatchType)
    for closed in (999_999, -1, 2**70):
        assert isinstance(refused(Fd, closed), MismatchValue)
    owner = OwnedFd(os.dup(pipe[0]))
    owner.close()
    assert isinstance(refused(OwnedFd, owner), MismatchValue)


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", [BinaryIO, IO[bytes]])
def test_files(hint: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"first ")
        with _through(hint, file) as received:
            assert received.mode == "wb"
            received.write(b"second")
    assert path.read_bytes() == b"first second"
    with path.open("rb") as file, _through(hint, file) as received:
        assert received.read() == b"first second"
    with path.open("r+b") as file, _through(hint, file) as received:
        assert received.read(5) == b"first"
        received.write(b"!")
    assert path.read_bytes() == b"first!second"


def test_the_ends_of_a_pipe_are_files(pipe: tuple[int, int]) -> None:
    with os.fdopen(os.dup(pipe[1]), "wb") as end, _through(BinaryIO, end) as received:
        received.write(b"x")
    with os.fdopen(os.dup(pipe[0]), "rb", 0) as end, _through(BinaryIO, end) as received:
        assert received.read(1) == b"x"


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    import io

    assert isinstance(refused(BinaryIO, 1), MismatchType)
    assert isinstance(refused(BinaryIO, "file"), MismatchType)
    assert isinstance(refused(BinaryIO, io.BytesIO(b"x")), MismatchValue)
    with (tmp_path / "file").open("wb") as file:
        pass
    assert isinstance(refused(BinaryIO, file), MismatchValue)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with MessageSequence() as sequence:
        sequence.write_file_descriptor(fd)
        os.close(fd)
        with pytest.raises(ParcelReadError, match="cannot be used"):
            codec_for(BinaryIO).read(sequence)


# --- Ashmem -----------------------------------------------------------------------------------------------------


def test_ashmem() -> None:
    with Ashmem.create("test", 4096) as ashmem, _through(Ashmem, ashmem) as received:
        ashmem.map_read_write_ashmem()
        ashmem.write_data_to_ashmem(b"abc", 3, 0)
        received.map_readonly_ashmem()
        assert received.read_data_from_ashmem(3, 0) == b"abc"
    assert isinstance(refused(Ashmem, b"abc"), MismatchType)
    with MessageSequence() as sequence, pytest.raises(ParcelWriteError):
        codec_for(Ashmem).write(sequence, ashmem)


# --- nothing stays open when a message is malformed --------------------------------------------------------------


@pytest.mark.parametrize("hint", [list[Fd], list[OwnedFd], list[BinaryIO]])
def test_what_was_opened_before_an_error_is_closed(hint: Any, pipe: tuple[int, int]) -> None:
    before = _number_of_open_descriptors()
    with MessageSequence() as sequence:
        sequence.write_int(3)
        sequence.write_file_descriptor(pipe[0])
        sequence.write_file_descriptor(pipe[1])
        sequence._out += bytes(RECORD_SIZE)
        with pytest.raises(ParcelReadError), closing_on_error():
            codec_for(hint).read(sequence)
    assert _number_of_open_descriptors() == before


def test_blocks_that_end_well_or_are_nested_close_nothing_of_others(pipe: tuple[int, int]) -> None:
    codec = codec_for(Fd)
    with MessageSequence() as sequence:
        for _ in range(3):
            codec.write(sequence, pipe[0])
        with closing_on_error():
            outer = codec.read(sequence)
            with pytest.raises(KeyError), closing_on_error():
                inner = codec.read(sequence)
                raise KeyError
            with pytest.raises(OSError):
                os.fstat(inner)
        kept = codec.read(sequence)
    for fd in (outer, kept):
        os.fstat(fd)
        os.close(fd)


# --- remote objects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", [IRemoteObject, RemoteObject, RemoteProxy])
def test_remote_objects(hint: Any) -> None:
    stub = RemoteObject("com.example.IThing")
    assert _through(hint, stub) is stub
    assert _through(list[hint], [stub, stub]) == [stub, stub]
    for wrong in (None, 1, "stub", object()):
        assert isinstance(refused(hint, wrong), MismatchType)
    assert "no remote object" in malformed(hint, bytes(RECORD_SIZE))


class IThing(Interface, descriptor="com.example.IThing"):
    @method
    def touch(self) -> None: ...


class Thing(IThing):
    def touch(self) -> None:
        pass


class Connection:
    """As much of a driver's connection as making a proxy takes."""

    caller = "nobody"
    is_dead = False

    def transact(self) -> None:
        raise AssertionError("no call was made")

    transact_async = transact


def test_interfaces() -> None:
    thing = Thing()
    assert _through(IThing, thing) is thing
    assert _through(IThing, proxy(IThing, thing)) is thing
    assert codec_for(IThing).name() == "IThing"
    assert codec_for(IThing).describe({}) == {"interface": "com.example.IThing"}
    for wrong in (None, RemoteObject("com.example.IThing"), "thing"):
        assert isinstance(refused(IThing, wrong), MismatchType)
    assert "no remote object" in malformed(IThing, bytes(RECORD_SIZE))


def test_a_received_interface_is_a_typed_proxy() -> None:
    remote = RemoteProxy(Connection(), 1)  # type: ignore[arg-type]
    with MessageSequence._received(bytes(RECORD_SIZE), {0: (KIND_REMOTE, remote)}) as sequence:
        received = codec_for(IThing).read(sequence)
    assert isinstance(received, IThing)
    assert received.as_object() is remote
    with MessageSequence() as sequence:
        codec_for(IThing).write(sequence, received)
        assert sequence.read_remote_object() is remote


def test_a_local_object_without_the_interface_is_malformed() -> None:
    with MessageSequence() as sequence:
        sequence.write_remote_object(RemoteObject("com.example.IThing"))
        with pytest.raises(ParcelReadError, match="does not implement it"):
            codec_for(IThing).read(sequence)


def test_an_implementing_class_is_no_hint() -> None:
    with pytest.raises(TypeError, match="Thing declares no interface"):
        codec_for(Thing)


# --- Parcelables --------------------------------------------------------------------------------------------------


class Point:
    def __init__(self) -> None:
        self.x = 0

    def marshalling(self, sequence: MessageSequence) -> bool:
        sequence.write_int(self.x)
        return True

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        self.x = sequence.read_int()
        return True


class Stubborn(Point):
    def marshalling(self, sequence: MessageSequence) -> bool:
        return False


def test_parcelables() -> None:
    point = Point()
    point.x = 5
    assert _through(Point, point).x == 5
    assert [each.x for each in _through(list[Point], [point, Point()])] == [5, 0]
    assert isinstance(refused(Point, 5), MismatchType)
    with MessageSequence() as sequence, pytest.raises(ParcelWriteError, match="marshalling of Stubborn"):
        codec_for(Point).write(sequence, Stubborn())
    assert "no Parcelable" in malformed(Point, int32(0))
    assert "unmarshalling of Point raised" in malformed(Point, int32(1))


# --- hostile bytes and objects --------------------------------------------------------------------------------------

ALL: list[Any] = [Fd, OwnedFd, BinaryIO, Ashmem, IRemoteObject, Point, list[Fd], dict[str, Ashmem], bytes | None]


@pytest.mark.parametrize("hint", ALL)
@examples
@given(data=st.binary(max_size=80) | st.lists(st.integers(-2, 4).map(int32), max_size=20).map(b"".join))
def test_hostile_bytes(hint: Any, data: bytes) -> None:
    survives(hint, data)


@pytest.mark.parametrize("hint", ALL)
@examples
@given(words=st.lists(st.integers(-1, 4), min_size=14, max_size=30), at=st.integers(0, 8), remote=st.booleans())
def test_true_objects_at_hostile_places(hint: Any, words: list[int], at: int, remote: bool) -> None:
    before = _number_of_open_descriptors()
    value: object = RemoteObject("x") if remote else OwnedFd(os.open("/dev/null", os.O_RDWR))
    objects = {4 * at: (KIND_REMOTE if remote else KIND_FD, value)}
    sequence = MessageSequence._received(int32(*words), objects)
    try:
        with closing_on_error():
            codec_for(hint).read(sequence)
            raise ParcelReadError("the rest is malformed")
    except ParcelReadError:
        pass
    sequence.reclaim()
    del objects, value
    assert _number_of_open_descriptors() == before
