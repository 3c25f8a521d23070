"""samgr/logs.py: names of files, rotation under a writer's hands, reading."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.samgr import logs


@given(st.lists(st.text(max_size=200), unique=True, min_size=1, max_size=5))
def test_every_name_is_one_file_of_its_own_in_the_folder(names: list[str]) -> None:
    folder = Path("/run/device")
    paths = [logs.log_path(folder, name) for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        assert path.parent == folder / "logs"
        assert len(os.fsencode(path.name)) <= 250 and not path.name.startswith(".")
        assert "\0" not in path.name and path.name.endswith(".log")


def test_plain_names_stay_readable() -> None:
    assert logs.log_path(Path("/d"), "com.example.photos-2") == Path("/d/logs/com.example.photos-2.log")
    assert logs.log_path(Path("/d"), "a/b:c").name == "a%2Fb%3Ac.log"
    assert logs.log_path(Path("/d"), "..").name == "%2E..log"
    assert logs.log_path(Path("/d"), "").name == "%.log"
    long = ["x" * 181, "x" * 181 + "y"]
    assert len({logs.log_path(Path("/d"), name) for name in long}) == 2


def test_a_log_is_private_and_never_a_links_target(tmp_path: Path) -> None:
    path = logs.log_path(tmp_path, "a")
    before = os.umask(0)
    try:
        os.close(logs.open_log(path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        logs.open_log(path)
    assert victim.read_text() == "mine"


def test_rotation_keeps_three_and_the_writer_goes_on(tmp_path: Path) -> None:
    path = logs.log_path(tmp_path, "a")
    assert not logs.rotate(path, 10)  # there is none
    writer = logs.open_log(path)
    try:
        for number in range(5):
            assert not logs.rotate(path, 10)
            os.write(writer, f"this is round {number}\n".encode())
            assert logs.rotate(path, 10)
            assert path.stat().st_size == 0
        os.write(writer, b"last\n")
    finally:
        os.close(writer)
    assert path.read_text() == "last\n"
    assert [path.with_name(f"a.log.{n}").read_text() for n in (1, 2, 3)] == [f"this is round {n}\n" for n in (4, 3, 2)]
    assert not path.with_name("a.log.4").exists()
    assert path.with_name("a.log.1").stat().st_mode & 0o777 == 0o600
    assert logs.names(tmp_path) == ["a"]


def test_of_a_log_that_grew_far_only_the_end_is_kept(tmp_path: Path) -> None:
    path = logs.log_path(tmp_path, "a")
    os.close(logs.open_log(path))
    with path.open("r+b") as file:
        file.truncate(50 * limits.MIB)  # sparse
        file.seek(0, os.SEEK_END)
        file.write(b"the end")
    assert logs.rotate(path)
    kept = path.with_name("a.log.1")
    assert kept.stat().st_size == limits.MAX_LOG_FILE
    assert kept.read_bytes().endswith(b"the end")


def test_tail_reaches_back_into_rotated_files(tmp_path: Path) -> None:
    path = logs.log_path(tmp_path, "a")
    with pytest.raises(FileNotFoundError):
        logs.tail(path, 3)
    os.close(logs.open_log(path))
    path.write_text("1\n2\n3\n")
    logs.rotate(path, 0)
    path.write_bytes(b"4\n\xff5\n")
    assert logs.tail(path, 3) == ["3", "4", "\\xff5"]
    assert logs.tail(path, 100) == ["1", "2", "3", "4", "\\xff5"]
    assert logs.tail(path, 1) == ["\\xff5"]
    assert logs.tail(path, 0) == []
    assert b"".join(logs.added(path, 2)) == b"\xff5\n"


def test_a_note_is_one_line_with_a_time(tmp_path: Path) -> None:
    path = logs.log_path(tmp_path, "a")
    logs.note(path, "pid 7 ended")
    (line,) = path.read_text().splitlines()
    assert line.startswith("--- 20") and line.endswith(" pid 7 ended")


def test_names_of_a_device_without_logs(tmp_path: Path) -> None:
    assert logs.names(tmp_path) == []
