"""Ashmem: anonymous shared memory that a call can carry (reference 1.9).

Owns: a memfd, at most one mapping of it, and the protection it still allows.

Why memfd: /dev/ashmem exists on Android kernels only. What its ioctls did is
done with seals. The size is sealed at creation, so no process can shrink the
memory under another one that has it mapped (that would kill it); a received
descriptor without that seal is refused. Taking the right to write away seals
the memory against new writable mappings and writes in every process, and
every holder sees it: there is one protection per region, as with the original.

Rules upheld: protection only narrows; nothing is read or written outside the
region; the descriptor is closed exactly once, and forgetting to close it is a
ResourceWarning. Limits of the kernel: a writable view that exists when the
protection is narrowed stays writable; PROT_NONE and taking the right to read
away bind this object only. Shared memory can change while it is looked at:
copy what must not (``read_data_from_ashmem`` does).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import warnings
from types import TracebackType
from typing import Any, Final, overload

from binderkit.errors import (
    AshmemError,
    AshmemReadError,
    AshmemWriteError,
    MmapError,
    ParamTypeError,
    ParamValueError,
    ProtectionError,
)

__all__ = ["Ashmem"]

_FUTURE_WRITE: Final = 0x0010
"""F_SEAL_FUTURE_WRITE, which the fcntl module does not name."""
_SIZE_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_WRITE_SEALS: Final = _FUTURE_WRITE | fcntl.F_SEAL_WRITE
_MAX_NAME: Final = 249
"""Bytes; the kernel's limit for the name of a memfd."""
_MAX_SIZE: Final = 2**31 - 1
"""Bytes; the size travels as an int32 (reference 1.2)."""
_ALL: Final = 7
_NO_EXTRA_FD: Final[dict[str, Any]] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
"""From Python 3.13 on a mapping does without a descriptor of its own."""


class Ashmem:
    """A region of shared memory (reference 1.9). Close it, or use it in a ``with`` block.

    Threads may share one, but none may close it while another still uses it.

    Attributes:
        PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC: bits of a protection; PROT_EXEC is accepted and maps nothing
            executable.
    """

    __slots__ = ("__weakref__", "_allowed", "_fd", "_flags", "_map", "_name", "_size")

    PROT_NONE: Final = 0
    PROT_READ: Final = 1
    PROT_WRITE: Final = 2
    PROT_EXEC: Final = 4

    def __init__(self, fd: int, size: int, name: str, allowed: int) -> None:
        """Take ownership of a checked memfd; use ``create``."""
        self._fd = fd
        self._size = size
        self._name = name
        self._allowed = allowed
        self._flags = 0
        self._map: mmap.mmap | None = None

    @overload
    @classmethod
    def create(cls, name: str, size: int) -> Ashmem: ...

    @overload
    @classmethod
    def create(cls, name: Ashmem) -> Ashmem: ...

    @classmethod
    def create(cls, name: str | Ashmem, size: int | None = None) -> Ashmem:
        """Return a new region, or a second holder of an existing one (reference 1.9).

        Args:
            name: what /proc shows, 1 … 249 bytes of UTF-8; or an Ashmem, whose memory and protection are shared.
            size: bytes, 1 … 2 147 483 647; not given with an Ashmem.

        Raises:
            ParamTypeError, ParamValueError: a wrong name or size (401).
            MmapError: the system has no memory or descriptor, or the Ashmem is closed (1900001).
        """
        if isinstance(name, Ashmem):
            if size is not None:
                raise ParamTypeError("Ashmem.create(ashmem) takes no size; it is that of the existing region")
            return cls(name._dup(), name._size, name._name, name._protection())
        _check_name(name)
        size = _integer("Ashmem.create(name, size)", size)
        if not 0 < size <= _MAX_SIZE:
            raise ParamValueError(f"Ashmem.create: size {size}; it must be 1 … {_MAX_SIZE} bytes")
        try:
            fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise MmapError(f"cannot create shared memory {name!r}: {error}") from error
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SIZE_SEALS)
        except OSError as error:
            os.close(fd)
            raise MmapError(f"cannot create {size} bytes of shared memory {name!r}: {error}") from error
        return cls(fd, size, name, _ALL)

    @classmethod
    def _from_fd(cls, fd: int, size: int) -> Ashmem:
        """Return the region behind a received descriptor; takes ownership of ``fd``, also when it fails.

        Raises:
            AshmemError: no memfd, its size is not sealed or below ``size``, or ``size`` is below 1.
        """
        try:
            return cls(fd, size, "received", _checked_protection(fd, size))
        except BaseException:
            os.close(fd)
            raise

    def close_ashmem(self) -> None:
        """Unmap the region and close its descriptor; a second call does nothing. Other holders keep theirs."""
        self.unmap_ashmem()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def unmap_ashmem(self) -> None:
        """Give up the mapping; views that were taken stay usable and keep the memory until they are gone."""
        self._flags = 0
        self._map = None

    def get_ashmem_size(self) -> int:
        """Return the size in bytes; also after closing."""
        return self._size

    def map_typed_ashmem(self, map_type: int) -> None:
        """Map the region, in place of an earlier mapping (reference 1.9).

        Args:
            map_type: PROT_* bits, 0 … 7.

        Raises:
            ParamTypeError, ParamValueError: not an int, or outside 0 … 7 (401).
            MmapError: not allowed by the protection, closed, or no memory (1900001).
        """
        map_type = _integer("map_typed_ashmem(map_type)", map_type)
        if not 0 <= map_type <= _ALL:
            raise ParamValueError(f"map_typed_ashmem({map_type}): PROT_* bits, 0 … {_ALL}")
        if self._fd < 0:
            raise MmapError(f"cannot map {self!r}: it is closed")
        allowed = self._protection()
        if map_type & ~allowed:
            raise MmapError(f"cannot map {self!r} with protection {map_type}: only {allowed} is allowed any more")
        # A mapping without any right is nothing to Python, whose buffers would crash on it.
        self._map = self._mmap(map_type) if map_type & 3 else None
        self._flags = map_type

    def map_read_write_ashmem(self) -> None:
        """Map the region for reading and writing; raises as ``map_typed_ashmem``."""
        self.map_typed_ashmem(self.PROT_READ | self.PROT_WRITE)

    def map_readonly_ashmem(self) -> None:
        """Map the region for reading; raises as ``map_typed_ashmem``."""
        self.map_typed_ashmem(self.PROT_READ)

    def set_protection_type(self, protection_type: int) -> None:
        """Narrow what the region allows; rights that are gone never come back (reference 1.9).

        Taking PROT_WRITE away holds in every process. Existing writable views stay writable (the kernel cannot take
        them back), but ``write_data_to_ashmem`` refuses.

        Args:
            protection_type: PROT_* bits, a subset of what is still allowed.

        Raises:
            ParamTypeError: not an int (401).
            ProtectionError: it would widen the protection, is outside 0 … 7, or the region is closed (1900002).
        """
        mask = _integer("set_protection_type(protection_type)", protection_type)
        if self._fd < 0:
            raise ProtectionError(f"cannot protect {self!r}: it is closed")
        allowed = self._protection()
        if mask < 0 or mask & ~allowed:
            raise ProtectionError(f"set_protection_type({mask}): only narrowing is possible, {allowed} is allowed now")
        if allowed & self.PROT_WRITE and not mask & self.PROT_WRITE:
            try:
                fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _FUTURE_WRITE)
            except OSError as error:
                raise ProtectionError(f"cannot take the right to write {self!r} away: {error}") from error
        self._allowed = mask

    def write_data_to_ashmem(self, buf: Any, size: int, offset: int) -> None:
        """Copy bytes into the region (reference 1.9).

        Args:
            buf: anything with a C-contiguous buffer.
            size: bytes of ``buf`` to copy, 1 … len(buf).
            offset: byte in the region to start at.

        Raises:
            ParamTypeError, ParamValueError: no buffer, no ints, or more than the buffer has (401).
            AshmemWriteError: outside the region, not mapped for writing, or not allowed any more (1900003).
        """
        source = _bytes_of(buf)
        size = _integer("write_data_to_ashmem(size)", size)
        offset = _integer("write_data_to_ashmem(offset)", offset)
        mapped = self._mapped(AshmemWriteError, "write to", self.PROT_WRITE, size, offset)
        if size > len(source):
            raise ParamValueError(f"write_data_to_ashmem: {size} bytes of a buffer of {len(source)}")
        mapped[offset : offset + size] = source[:size]

    def read_data_from_ashmem(self, size: int, offset: int) -> bytes:
        """Return a copy of bytes of the region (reference 1.9).

        Args:
            size: bytes, at least 1.
            offset: byte in the region to start at.

        Raises:
            ParamTypeError: no ints (401).
            AshmemReadError: outside the region, not mapped for reading, or not allowed any more (1900004).
        """
        size = _integer("read_data_from_ashmem(size)", size)
        offset = _integer("read_data_from_ashmem(offset)", offset)
        return self._mapped(AshmemReadError, "read from", self.PROT_READ, size, offset)[offset : offset + size]

    def view(self) -> memoryview:
        """Return the whole mapped region without copying; ``numpy.frombuffer`` takes it.

        Writable when mapped and allowed for writing. It stays usable after ``unmap_ashmem`` and ``close_ashmem``; the
        mapping (before Python 3.13 with a descriptor of its own) goes with the last view.

        Raises:
            AshmemReadError: not mapped for reading, or not allowed any more (1900004).
        """
        view = memoryview(self._mapped(AshmemReadError, "view", self.PROT_READ, self._size, 0))
        return view if self._flags & self._protection() & self.PROT_WRITE else view.toreadonly()

    def __enter__(self) -> Ashmem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_ashmem()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) < 0:
            return
        warnings.warn(f"{self!r} was not closed; call close_ashmem()", ResourceWarning, stacklevel=2, source=self)
        self.close_ashmem()

    def __repr__(self) -> str:
        state = "closed" if self._fd < 0 else f"fd={self._fd} allowed={self._allowed} mapped={self._flags}"
        return f"<Ashmem {self._name!r} {self._size} bytes {state}>"

    def _dup(self) -> int:
        """Return a duplicate of the descriptor, owned by the caller.

        Raises:
            MmapError: closed, or too many descriptors.
        """
        if self._fd < 0:
            raise MmapError(f"{self!r} was closed; share it before closing it")
        try:
            return fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 0)
        except OSError as error:
            raise MmapError(f"cannot duplicate the descriptor of {self!r}: {error}") from error

    def _protection(self) -> int:
        """Return what is allowed now; another holder may have narrowed it since."""
        if self._fd >= 0 and fcntl.fcntl(self._fd, fcntl.F_GET_SEALS) & _WRITE_SEALS:
            self._allowed &= ~self.PROT_WRITE
        return self._allowed

    def _mmap(self, map_type: int) -> mmap.mmap:
        # Reading comes with every mapping on the processors we run on; the flags say what is granted.
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if map_type & self.PROT_WRITE else 0)
        try:
            return mmap.mmap(self._fd, self._size, flags=mmap.MAP_SHARED, prot=protection, **_NO_EXTRA_FD)
        except (OSError, ValueError) as error:
            raise MmapError(f"cannot map {self!r}: {error}") from error

    def _mapped(self, failure: type[AshmemError], doing: str, right: int, size: int, offset: int) -> mmap.mmap:
        """Return the mapping if it may be accessed like that (reference 1.9, CheckValid), else raise ``failure``."""
        mapped = self._map
        if mapped is None:
            problem = "not mapped"
        elif size <= 0 or offset < 0 or offset + size > self._size:
            problem = f"{size} bytes at {offset} are not within 0 … {self._size}"
        elif not self._flags & right:
            problem = f"mapped with protection {self._flags} only"
        elif not self._protection() & right:
            problem = f"only protection {self._allowed} is allowed any more"
        else:
            return mapped
        raise failure(f"cannot {doing} {self!r}: {problem}")


def _checked_protection(fd: int, size: int) -> int:
    """Return what the memory behind a received descriptor allows.

    Raises:
        AshmemError: it could be made smaller while it is mapped, is smaller than ``size``, or no shared memory.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        actual = os.fstat(fd).st_size
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        raise AshmemError(f"the descriptor is no memfd: {error}") from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise AshmemError("the memory is not sealed against shrinking, so its sender could crash us; seal it")
    if not 0 < size <= actual:
        raise AshmemError(f"a size of {size} bytes was announced, the memory has {actual}")
    read_only = seals & _WRITE_SEALS or access == os.O_RDONLY
    return _ALL & ~Ashmem.PROT_WRITE if read_only else _ALL


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise ParamTypeError(f"Ashmem.create takes a name and a size, or an Ashmem; got {type(name).__name__}")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise ParamValueError(f"Ashmem.create: the name {name!r} is no text: {error}") from error
    if not 0 < length <= _MAX_NAME or "\0" in name:
        raise ParamValueError(f"Ashmem.create: a name has 1 … {_MAX_NAME} bytes of UTF-8 and no NUL; got {length}")


def _integer(what: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ParamTypeError(f"{what} takes an int, got {type(value).__name__}")
    return int(value.__index__())


def _bytes_of(buf: Any) -> memoryview:
    try:
        view = memoryview(buf)
        return view.cast("B") if view.nbytes else memoryview(b"")
    except TypeError as error:
        raise ParamTypeError(f"write_data_to_ashmem takes a C-contiguous buffer, got {type(buf).__name__}") from error
