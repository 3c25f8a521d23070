"""Runs the blocks of a guide as its reader would; tests/test_documents.py compares what comes out.

    python tests/document_session.py GUIDE.md RESULT.json      in an empty folder

A block that begins with ``# name.py``, ``# folder/name.toml`` or ``// name.idl`` is a file; a later one of that name
replaces it. Other ``python`` blocks are typed into one session, ``console`` blocks hold commands behind ``$ ``. Behind
``name$ `` they are typed on another device, whose runtime directory is ``name`` in this one's; behind a command that
ends with `` &`` the session goes on when the lines that the guide shows (at least one) have come. The
result is one text for each ``python`` and ``console`` block: what was printed, or the error the block ended with; for
``console`` the commands with their output.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import closing, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT = re.compile(r"^(\w*)\$ (.*)\n((?:(?!\w*\$ ).*\n)*)", re.MULTILINE)
"""Device, command, and the lines below it."""
FILE = re.compile(r"(?:#|//) ((?:\w+/)*\w+\.\w+)\n")

TERMINAL = {"COLUMNS": "110", "PYTHONUNBUFFERED": "1"}
"""What a terminal does: it is wide, and output and errors come in the order in which they are written."""


def blocks(guide: Path) -> list[tuple[str, str]]:
    """Return language and text of each block."""
    return BLOCK.findall(guide.read_text())


def typed(text: str, names: dict[str, Any]) -> str:
    """Run a block in the session; return what it printed, or its error as one line."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        try:
            exec(compile(text, "<guide>", "exec", dont_inherit=True), names)  # noqa: S102 - our own documents
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return printed.getvalue()


class Terminals:
    """Runs commands, on this device and others; those in the background end with it."""

    def __init__(self) -> None:
        self._background: list[subprocess.Popen[str]] = []
        self._pins: dict[str, str] = {}

    def commanded(self, text: str) -> str:
        """Run the commands of a block; return them with their output."""
        shown = ""
        for prompt in PROMPT.finditer(text):
            device, line, output = prompt.groups()
            program, *arguments = shlex.split(line.removesuffix(" &"))
            if program != "binderkit":
                raise ValueError(f"a guide uses the command binderkit only, not {program}")
            command = [sys.executable, "-m", "binderkit.cli.main", *(self._pins.get(one, one) for one in arguments)]
            environment = self._environment(device)
            if line.endswith(" &"):
                said = self._begin(command, environment, output)
            else:
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, env=environment
                )
                said = done.stdout
            shown += f"{device}$ {line}\n{said}"
        return shown

    @staticmethod
    def _environment(device: str) -> dict[str, str]:
        environment = TERMINAL | os.environ
        if device:
            directory = Path(os.environ["BINDERKIT_RUNTIME_DIR"], device)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            environment["BINDERKIT_RUNTIME_DIR"] = str(directory)
        return environment

    def _begin(self, command: list[str], environment: dict[str, str], expected: str) -> str:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self._background.append(process)
        assert process.stdout is not None
        lines = expected.splitlines()
        said = [process.stdout.readline() for _ in lines or [""]]
        for wanted, got in zip(lines, said, strict=False):
            # The guide's PIN stands for the one of this run.
            if wanted.startswith("PIN ") and got.startswith("PIN "):
                self._pins[wanted[4:].strip()] = got[4:].strip()
        return "".join(said[: len(lines)])

    def close(self) -> None:
        """End what runs in the background, the last first."""
        for process in reversed(self._background):
            process.terminate()
            process.communicate(timeout=30)


def main(guide: Path, result: Path) -> None:
    """Run all blocks of ``guide`` in the current folder; write the list of results."""
    session = ModuleType("__main__")  # where hints of its classes are looked up
    sys.modules["__main__"] = session
    names = vars(session)
    results: list[str] = []
    with closing(Terminals()) as terminals:
        for language, text in blocks(guide):
            name = FILE.match(text)
            if name is not None:
                file = Path(name[1])
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            if language == "console":
                results.append(terminals.commanded(text))
            elif language == "python":
                results.append("" if name is not None else typed(text, names))
    result.write_text(json.dumps(results))


if __name__ == "__main__":
    here, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    sys.path[0] = os.getcwd()
    main(here, out)
