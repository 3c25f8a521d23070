"""What is more than bytes: descriptors, files, Ashmem, remote objects, interfaces, Parcelables.

Owns: how they are taken from, and given to, the methods of MessageSequence, and who closes what a read made. A
descriptor, a file and an Ashmem belong to whoever gets them: the receiver closes them. If a later part of the same
message is malformed nobody would, and a hostile sender could use all descriptors up. An OwnedFd, a file and an Ashmem
close themselves when nobody holds them; an Fd is a plain int and cannot: messages with types whose ``owns_descriptors``
is true are read inside ``closing_on_error``.

Rules upheld: whatever is not there is a ParcelReadError; a read never leaves a descriptor open that nobody knows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import F_GETFL, fcntl
from typing import IO, Any, Final, NewType

from binderkit.errors import DescriptorError, InvalidObjectError, ParcelableError, ParcelReadError
from binderkit.interface.codec.base import Codec, MismatchType, MismatchValue, owns_descriptors
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import ForeignObject, IRemoteObject
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import RECORD_SIZE, OwnedFd, Transferable

__all__ = [
    "AshmemCodec",
    "Fd",
    "FdCodec",
    "FileCodec",
    "InterfaceCodec",
    "OwnedFdCodec",
    "ParcelableCodec",
    "RemoteCodec",
    "closing_on_error",
    "reader",
]

Fd = NewType("Fd", int)
"""A file descriptor. The sender keeps its own; the receiver gets a duplicate and closes it."""


class _Opened(threading.local):
    """What reads of this thread have opened inside ``closing_on_error``; None outside."""

    closers: list[Callable[[], object]] | None = None


_opened: Final = _Opened()


@contextmanager
def closing_on_error() -> Iterator[None]:
    """Within the block: when it ends with an exception, close the descriptors, files and Ashmems that codecs have read.

    May be nested; the innermost block owns what is read in it. Of this thread only.
    """
    before = _opened.closers
    closers: list[Callable[[], object]] = []
    _opened.closers = closers
    try:
        yield
    except BaseException:
        for close in closers:
            close()
        raise
    finally:
        _opened.closers = before


def reader(codec: Codec) -> Callable[[MessageSequence], Any]:
    """Return how one value is read by ``codec``: inside ``closing_on_error`` if values can hold a descriptor."""
    if not owns_descriptors(codec):
        return codec.read

    def read(data: MessageSequence) -> Any:
        with closing_on_error():
            return codec.read(data)

    return read


def _remember(close: Callable[[], object]) -> None:
    if _opened.closers is not None:
        _opened.closers.append(close)


class FdCodec(Codec):
    """Fd: a duplicate of a descriptor."""

    minimum = RECORD_SIZE
    owns_descriptor = True

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a duplicate of a descriptor; see Codec."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise MismatchType.of("a file descriptor (int)", value)
        _write_descriptor(out, value, value)

    def read(self, data: MessageSequence) -> Any:
        """Return a descriptor that the caller closes; see Codec."""
        fd = data.read_file_descriptor()
        _remember(lambda: os.close(fd))
        return fd

    def name(self) -> str:
        """Return "fd"."""
        return "fd"


class OwnedFdCodec(Codec):
    """OwnedFd: a duplicate of a descriptor that closes itself when nobody holds it; on the wire as an Fd."""

    minimum = RECORD_SIZE
    kinds = (OwnedFd,)
    owns_descriptor = True

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a duplicate of a descriptor; see Codec."""
        if not isinstance(value, OwnedFd):
            raise MismatchType.of("OwnedFd", value)
        _write_descriptor(out, value, value)

    def read(self, data: MessageSequence) -> OwnedFd:
        """Return a descriptor; see Codec."""
        owner = OwnedFd(data.read_file_descriptor())
        _remember(owner.close)
        return owner

    def name(self) -> str:
        """Return "fd"."""
        return "fd"


class FileCodec(Codec):
    """BinaryIO: the descriptor of a binary file, pipe or socket file.

    What is in the sender's buffer is flushed; what its buffer has read ahead is not seen by the receiver. Both share
    one position.
    """

    minimum = RECORD_SIZE
    owns_descriptor = True

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a file's descriptor; see Codec."""
        if not hasattr(value, "fileno") or not hasattr(value, "read"):
            raise MismatchType.of("a binary file", value)
        try:
            if not value.closed and value.writable():
                value.flush()
            number = value.fileno()
        except (OSError, ValueError) as error:  # closed, or without a descriptor
            raise MismatchValue(f"a binary file with a descriptor ({error})", repr(value)) from None
        _write_descriptor(out, number, value)

    def read(self, data: MessageSequence) -> IO[bytes]:
        """Return a file that the caller closes; see Codec."""
        fd = data.read_file_descriptor()
        try:
            access = fcntl(fd, F_GETFL) & os.O_ACCMODE
            # A file for both needs a position; pipes and sockets have none, so they go without a buffer.
            both = ("r+b", 0)
            mode, buffering = {os.O_RDONLY: ("rb", -1), os.O_WRONLY: ("wb", -1)}.get(access, both)
            file: IO[bytes] = os.fdopen(fd, mode, buffering)
        except (OSError, ValueError) as error:  # a directory
            os.close(fd)
            data._malformed("a file", f"its descriptor cannot be used as one: {error}")
        _remember(file.close)
        return file

    def name(self) -> str:
        """Return "file"."""
        return "file"


def _write_descriptor(out: MessageSequence, number: int | OwnedFd, given: object) -> None:
    try:
        out.write_file_descriptor(number)
    except DescriptorError as error:
        raise MismatchValue(f"an open descriptor ({error})", repr(given)) from error


class AshmemCodec(Codec):
    """Ashmem: shared memory; nothing is copied."""

    minimum = RECORD_SIZE + 4
    kinds = (Ashmem,)
    owns_descriptor = True

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append shared memory; see Codec."""
        if not isinstance(value, Ashmem):
            raise MismatchType.of("Ashmem", value)
        out.write_ashmem(value)

    def read(self, data: MessageSequence) -> Ashmem:
        """Return shared memory that the caller closes; see Codec."""
        ashmem = data.read_ashmem()
        _remember(ashmem.close_ashmem)
        return ashmem

    def name(self) -> str:
        """Return "ashmem"."""
        return "ashmem"


class RemoteCodec(Codec):
    """IRemoteObject (or RemoteObject, RemoteProxy): a stub or a proxy.

    The receiver gets a RemoteProxy, or the stub itself if it is of its own process: IRemoteObject is the hint that
    says so.
    """

    minimum = RECORD_SIZE
    kinds = (IRemoteObject,)

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a remote object; see Codec."""
        if not isinstance(value, Transferable):
            raise MismatchType.of("a RemoteObject or RemoteProxy", value)
        out.write_remote_object(value)

    def read(self, data: MessageSequence) -> Any:
        """Return a stub or a proxy; see Codec."""
        return _read_remote(data)

    def name(self) -> str:
        """Return "remote"."""
        return "remote"


class InterfaceCodec(Codec):
    """A class that declares an interface: the remote object of a stub or proxy that has it.

    Args:
        interface: a subclass of binderkit.interface.contract.Interface with a descriptor of its own.
    """

    minimum = RECORD_SIZE

    def __init__(self, interface: type[Any]) -> None:
        self.interface: Any = interface
        self.kinds = (interface,)

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append the remote object behind a stub or proxy; see Codec."""
        if not isinstance(value, self.interface):
            raise MismatchType.of(self.name(), value)
        out.write_remote_object(value if isinstance(value, Transferable) else value.as_object())

    def read(self, data: MessageSequence) -> Any:
        """Return a typed proxy, or the stub itself if it is of this process; see Codec."""
        remote = _read_remote(data)
        if isinstance(remote, self.interface):
            return remote
        if not isinstance(remote, (RemoteProxy, ForeignObject)):
            data._malformed(self.name(), f"{remote!r} does not implement it")
        from binderkit.interface.proxy import proxy  # needs the contracts, which need the codecs

        return proxy(self.interface, remote)

    def name(self) -> str:
        """Return the interface's name."""
        return str(self.interface.__qualname__.rpartition("<locals>.")[2])

    def describe(self, types: dict[str, Any]) -> Any:
        """Return ``{"interface": descriptor}``; see Codec."""
        return {"interface": self.interface.__contract__.descriptor}


def _read_remote(data: MessageSequence) -> Any:
    try:
        return data.read_remote_object()
    except InvalidObjectError as error:
        raise ParcelReadError(error.args[0]) from error


class ParcelableCodec(Codec):
    """A class with marshalling and unmarshalling: int32 1 and what it writes itself (reference 1.2).

    Args:
        cls: must be callable without arguments; a read makes an object and has it fill itself.
    """

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        self.kinds = (cls,)

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a Parcelable; see Codec."""
        if not isinstance(value, self._cls):
            raise MismatchType.of(self.name(), value)
        out.write_parcelable(value)

    def read(self, data: MessageSequence) -> Any:
        """Return a Parcelable; see Codec."""
        value = self._cls()
        try:
            data.read_parcelable(value)
        except ParcelableError as error:
            raise ParcelReadError(error.args[0]) from error
        return value

    def name(self) -> str:
        """Return the class's name."""
        return self._cls.__qualname__.rpartition("<locals>.")[2]

    def describe(self, types: dict[str, Any]) -> Any:
        """Return ``{"parcelable": name}``; see Codec."""
        return {"parcelable": self.name()}
