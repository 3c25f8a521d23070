"""cli/app.py: every command, run in this process against real services."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

import binderkit
from binderkit import samgr
from binderkit.cli.main import main
from tests.samgr.processes import Adder, service_process

Samgr = subprocess.Popen[bytes]
Capture = pytest.CaptureFixture[str]
COMMANDS = ("samgr", "list", "ping", "call", "dump", "demo", "version")


def test_help_names_every_command(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS) and "--install-completion" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: Capture, command: str) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: binderkit" in text
    assert command in ("demo", "version") or "Example" in text


def test_version(capsys: Capture) -> None:
    assert main(["version"]) == 0
    assert binderkit.__version__ in capsys.readouterr().out


def test_list_as_table_and_as_json(running_samgr: Samgr, capsys: Capture) -> None:
    samgr.add_system_ability(0x1000, Adder(), name="tests.adder")
    assert main(["list"]) == 0
    assert re.search(rf"4096\s+0x1000\s+tests\.adder\s+{os.getpid()}\s+{os.getuid()}\s+no", capsys.readouterr().out)
    assert main(["list", "--json"]) == 0
    (info,) = [one for one in json.loads(capsys.readouterr().out) if not one["name"].startswith("binderkit.")]
    assert (info["id"], info["name"], info["pid"]) == (0x1000, "tests.adder", os.getpid())


def test_ping_prints_each_answer_and_a_summary(running_samgr: Samgr, capsys: Capture) -> None:
    with service_process("tests.adder"):
        assert main(["ping", "tests.adder", "-c", "3"]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"answer \d from tests\.adder: \d+ µs", text)) == 3
    assert "3 pings, all answered" in text


def test_call_shows_the_reply_as_bytes_and_values(running_samgr: Samgr, capsys: Capture) -> None:
    with service_process(0x1000):
        assert main(["call", "0x1000", "1", "i32", "-43", "--reply", "i32"]) == 0
        text = capsys.readouterr().out
        assert "reply: 4 bytes in" in text and "00000000  d6 ff ff ff" in text and text.endswith("i32 -42\n")
        assert main(["call", "0x1000", "0x1", "i32", "1", "--one-way"]) == 0
        assert "no reply" in capsys.readouterr().out


def test_call_can_write_the_interface_token(running_samgr: Samgr, capsys: Capture) -> None:
    assert main(["call", "0", "2", "--token", "i32", "77", "--reply", "i32,bool"]) == 0
    assert capsys.readouterr().out.endswith("i32 0\nbool false\n")


def test_dump_hands_arguments_with_dashes_over(running_samgr: Samgr, capsys: Capture) -> None:
    with service_process("tests.adder"):
        assert main(["dump", "tests.adder", "-x", "y"]) == 0
    assert capsys.readouterr().out == "adder ['-x', 'y']\n"
    assert main(["dump", "0"]) == 0
    assert "system abilities:" in capsys.readouterr().out


WRONG_USAGE = [
    (["fly"], "fly"),
    (["ping"], "Missing argument"),
    (["ping", "0", "-c", "0"], "greater than or equal to 1"),
    (["ping", "4 7"], "is no name of a system ability"),
    (["call", "0", "x"], "'x' is no transaction code"),
    (["call", "0", "1", "i32"], "no value after it"),
    (["call", "0", "1", "i32", "x"], "'x' is no i32"),
    (["call", "0", "2", "--token", "i32", "5", "--reply", "x"], "'x' is no type of a reply"),
]


def test_wrong_usage_ends_with_2_and_says_why(running_samgr: Samgr, capsys: Capture) -> None:
    for arguments, why in WRONG_USAGE:
        assert main(arguments) == 2, arguments
        assert why in " ".join(capsys.readouterr().err.replace("│", " ").split()), arguments
