"""tests/document_session.py: commands of a guide on several devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.document_session import PROMPT, Terminals


def test_a_prompt_names_a_device_and_takes_the_lines_below_it() -> None:
    text = "$ binderkit samgr &\ntablet$ binderkit device pair &\nPIN 482913\nmore $ text\n$ binderkit list\n"
    assert [prompt.groups() for prompt in PROMPT.finditer(text)] == [
        ("", "binderkit samgr &", ""),
        ("tablet", "binderkit device pair &", "PIN 482913\nmore $ text\n"),
        ("", "binderkit list", ""),
    ]


def test_a_device_is_a_runtime_directory_in_this_one(runtime_dir: Path) -> None:
    terminals = Terminals()
    assert terminals._environment("")["BINDERKIT_RUNTIME_DIR"] == str(runtime_dir)
    there = terminals._environment("tablet")["BINDERKIT_RUNTIME_DIR"]
    assert there == str(runtime_dir / "tablet") and os.stat(there).st_mode & 0o777 == 0o700


def test_what_runs_in_the_background_ends_with_the_session(runtime_dir: Path) -> None:
    terminals = Terminals()
    assert terminals.commanded("$ binderkit samgr &\n") == "$ binderkit samgr &\n"
    assert "answer 1 from 0" in terminals.commanded("$ binderkit ping 0 -c 1\n")
    [daemon] = terminals._background
    assert daemon.poll() is None
    terminals.close()
    assert daemon.returncode == 0


def test_a_guide_runs_this_command_only() -> None:
    with pytest.raises(ValueError, match="not rm"):
        Terminals().commanded("$ rm -r photos\n")
