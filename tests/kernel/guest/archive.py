"""The kernel's initramfs format (cpio "newc"), written; and the archive that comes back, read.

Owns: both formats. Written here and not by cpio, so that every file belongs to root whoever builds the image, the same
files give the same bytes, and one program less has to be installed.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tests.kernel.guest.errors import GuestError

Entry = tuple[str, int, bytes]
"""Name without a leading slash, mode with the type's bits, content (of a symbolic link: its target)."""

END = "TRAILER!!!"
BLOCK = 512
"""Archives are padded to this, so that they can be joined end to end."""


def _padding(length: int, unit: int) -> bytes:
    return bytes(-length % unit)


def record(number: int, entry: Entry) -> bytes:
    """Return one file of an archive.

    Args:
        number: its inode number, different for each file of the archive.
        entry: the file.
    """
    name, mode, content = entry
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device (2), device it is (2), length of the name, checksum (unused)
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return b"".join((head, _padding(len(head), 4), content, _padding(len(content), 4)))


def write(entries: Iterable[Entry], target: BinaryIO) -> None:
    """Write an archive; folders have to come before what is in them."""
    length = 0
    for number, entry in enumerate((*entries, (END, 0, b"")), start=1):
        length += target.write(record(number, entry))
    target.write(_padding(length, BLOCK))


def entries_of(folder: Path, prefix: str = "") -> list[Entry]:
    """Return everything in a folder, in order of the names: files, folders and symbolic links.

    Args:
        folder: what to pack.
        prefix: where it goes in the guest, for example ``"/binderkit"``; its folders are made.

    Raises:
        GuestError: there is something else in it, such as a socket.
    """
    found: list[Entry] = []
    parts = PurePosixPath(prefix.lstrip("/")).parts
    found += [("/".join(parts[: depth + 1]), stat.S_IFDIR | 0o755, b"") for depth in range(len(parts))]
    for path in sorted(folder.rglob("*")):
        found.append(_entry(path, "/".join((*parts, *path.relative_to(folder).parts))))
    return found


def _entry(path: Path, name: str) -> Entry:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return name, stat.S_IFLNK | 0o777, os.readlink(path).encode()
    if stat.S_ISDIR(mode):
        return name, stat.S_IFDIR | 0o755, b""
    if stat.S_ISREG(mode):
        return name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644), path.read_bytes()
    raise GuestError(
        f"{path} is neither a file nor a folder nor a symbolic link; the guest's image can hold only those"
    )


def read_results(packed: bytes) -> dict[str, bytes]:
    """Return the files of the compressed tar archive that the guest sent, by name.

    Raises:
        GuestError: it is cut short or damaged, or a name leads out of the folder it is unpacked into.
    """
    files: dict[str, bytes] = {}
    try:
        # Decompressed first: only then is the checksum at the very end looked at.
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed)), mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    files[_inside(member.name)] = content.read()
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        raise GuestError(f"what the guest sent back ({len(packed)} bytes) cannot be read: {error}") from error
    return files


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise GuestError(f"the guest sent back a file named {name!r}; only names inside its results folder are taken")
    return str(path)
