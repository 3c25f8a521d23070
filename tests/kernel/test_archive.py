"""tests/kernel/guest/archive.py: what the kernel will read, and what a guest sends back."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.guest import archive
from tests.kernel.guest.errors import GuestError


def parsed(data: bytes) -> Iterator[archive.Entry]:
    """Read the format as the kernel's documentation has it: driver-api/early-userspace/buffer-format."""
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        start = (at + 110 + name_size + 3) // 4 * 4
        at = (start + size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert not data[at:].strip(b"\0")
            return
        assert fields[2:5] == [0, 0, 1]  # root's, one link
        yield name[:-1].decode(), mode, data[start : start + size]


entries = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
            lambda name: name != archive.END
        ),
        st.sampled_from([stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777]),
        st.binary(max_size=70),
    )
)


@given(entries)
def test_what_is_written_can_be_read_and_joined(written: list[archive.Entry]) -> None:
    target = io.BytesIO()
    archive.write(written, target)
    assert list(parsed(target.getvalue())) == written
    assert len(target.getvalue()) % archive.BLOCK == 0


def test_a_folder_becomes_entries_in_order_below_its_place(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/program").write_bytes(b"run")
    (tmp_path / "b/program").chmod(0o700)
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "c").symlink_to("/nowhere")
    assert archive.entries_of(tmp_path, "/opt/it") == [
        ("opt", stat.S_IFDIR | 0o755, b""),
        ("opt/it", stat.S_IFDIR | 0o755, b""),
        ("opt/it/a", stat.S_IFREG | 0o644, b"text"),
        ("opt/it/b", stat.S_IFDIR | 0o755, b""),
        ("opt/it/b/program", stat.S_IFREG | 0o755, b"run"),
        ("opt/it/c", stat.S_IFLNK | 0o777, b"/nowhere"),
    ]


def test_a_socket_is_refused_by_its_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "s"))
        with pytest.raises(GuestError, match="s is neither a file"):
            archive.entries_of(tmp_path)


def packed(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return target.getvalue()


def test_results_come_back_by_name() -> None:
    files = {"./.status": b"0\n", "./deep/junit.xml": b"<x/>" * 1000}
    assert archive.read_results(packed(files)) == {".status": b"0\n", "deep/junit.xml": b"<x/>" * 1000}


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b"])
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(GuestError, match="only names inside"):
        archive.read_results(packed({name: b""}))


def test_every_cut_of_the_results_is_told() -> None:
    whole = packed({"a": os.urandom(700)})
    for length in range(len(whole)):
        with pytest.raises(GuestError, match="cannot be read"):
            archive.read_results(whole[:length])


@given(st.binary(max_size=200), st.integers(0, 150))
def test_damaged_results_are_told_or_whole(noise: bytes, at: int) -> None:
    whole = packed({"a": b"x" * 300})
    try:
        archive.read_results(whole[:at] + noise + whole[at + len(noise) :])
    except GuestError:
        return
