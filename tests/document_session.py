"""Runs the blocks of a guide as its reader would; tests/test_documents.py compares what comes out.

    python tests/document_session.py GUIDE.md RESULT.json      in an empty folder

A block that begins with ``# name.py``, ``# folder/name.toml`` or ``// name.idl`` is a file; a later one of that name
replaces it. Other ``python`` blocks are typed into one session, ``console`` blocks hold commands behind ``$ ``. The
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
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
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


def commanded(text: str) -> str:
    """Run the commands of a block; return them with their output."""
    shown = ""
    for line in text.splitlines():
        if not line.startswith("$ "):
            continue
        program, *arguments = shlex.split(line[2:])
        if program != "binderkit":
            raise ValueError(f"a guide uses the command binderkit only, not {program}")
        command = [sys.executable, "-m", "binderkit.cli.main", *arguments]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, env=TERMINAL | os.environ
        )
        shown += f"{line}\n{done.stdout}"
    return shown


def main(guide: Path, result: Path) -> None:
    """Run all blocks of ``guide`` in the current folder; write the list of results."""
    session = ModuleType("__main__")  # where hints of its classes are looked up
    sys.modules["__main__"] = session
    names = vars(session)
    results: list[str] = []
    for language, text in blocks(guide):
        name = FILE.match(text)
        if name is not None:
            file = Path(name[1])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if language == "console":
            results.append(commanded(text))
        elif language == "python":
            results.append("" if name is not None else typed(text, names))
    result.write_text(json.dumps(results))


if __name__ == "__main__":
    here, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    sys.path[0] = os.getcwd()
    main(here, out)
