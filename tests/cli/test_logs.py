"""cli/logs.py: what is shown of a log, and how it is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binderkit.cli.logs import follow_log
from binderkit.cli.main import main
from binderkit.samgr import logs

Capture = pytest.CaptureFixture[str]


def written(directory: Path, name: str, text: bytes) -> Path:
    """Make a log."""
    path = logs.log_path(directory, name)
    log = logs.open_log(path)
    os.write(log, text)
    os.close(log)
    return path


def test_the_last_lines_of_a_process_with_nothing_that_moves_a_cursor(device: Path, capsys: Capture) -> None:
    written(device, "a/b", b"".join(b"line %d\n" % number for number in range(200)) + b"\x1b[2Jodd\xff\ttext\n")
    assert main(["logs", "a/b", "-n", "2"]) == 0
    assert capsys.readouterr().out == "line 199\n\ufffd[2Jodd\\xff\ttext\n"
    assert main(["logs", "a/b"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 100


def test_without_a_name_the_logs_are_listed(device: Path, capsys: Capture) -> None:
    assert main(["logs"]) == 0
    assert capsys.readouterr().out == ""
    written(device, "b", b"")
    written(device, "a", b"")
    assert main(["logs"]) == 0
    assert capsys.readouterr().out == "a\nb\n"


def test_an_unknown_process_is_told_with_those_there_are(device: Path, capsys: Capture) -> None:
    assert main(["logs", "x"]) == 1
    assert "process 'x' has no log in" in (text := capsys.readouterr().err) and "there are: none" in text
    written(device, "a", b"")
    assert main(["logs", "x"]) == 1
    assert "there are: a" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["-n", "-1"], ["-n", "x"], ["--fast"]])
def test_wrong_usage(device: Path, arguments: list[str]) -> None:
    assert main(["logs", "a", *arguments]) == 2


def test_help_shows_examples(capsys: Capture) -> None:
    assert main(["logs", "--help"]) == 0
    assert "binderkit logs photo-service" in capsys.readouterr().out


class Over(Exception):
    """The one who follows has seen enough."""


def test_following_shows_what_comes_also_after_a_rotation(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path, "a", b"old\n")
    turns = iter([b"new \xc3", b"\xa4\n", None, b"fresh\n", b""])

    def turn() -> None:
        text = next(turns)
        if text is None:
            logs.rotate(path, 0)
        elif text:
            written(tmp_path, "a", text)
        else:
            raise Over

    with pytest.raises(Over):
        follow_log(path, 4, pause=turn)
    assert capsys.readouterr().out == "new ä\nfresh\n"


def test_follow_begins_behind_what_tail_showed(device: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(device, "a", b"old\n")
    looks = iter([lambda: written(device, "a", b"new\n")])

    def look() -> None:
        try:
            next(looks)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("binderkit.cli.logs._sleep", look)
    assert main(["logs", "a", "-f"]) == 130
    assert capsys.readouterr().out.startswith("old\nnew\n")
    assert path.exists()
