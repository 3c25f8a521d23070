"""Python source text: signatures, docstrings, comments and imports, laid out as ``ruff format`` does.

Owns: where lines break, at 120 characters. Whatever does not fit goes one part per line with a trailing comma, which
formatters leave alone.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

__all__ = ["WIDTH", "Imports", "comment", "docstring", "exploded", "signature"]

WIDTH: Final = 120


def comment(text: str, indent: str) -> list[str]:
    """Return lines of a ``#`` comment; an empty text gives none."""
    lines: list[str] = []
    for line in text.splitlines():
        room = WIDTH - len(indent) - 2
        parts = textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{indent}# {part}".rstrip() for part in parts]
    return lines


def docstring(text: str, indent: str) -> list[str]:
    """Return the lines of a docstring; an empty text gives none."""
    text = inspect.cleandoc(text.replace("\t", "    ")).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if not text.strip():
        return []
    room = WIDTH - len(indent)
    lines: list[str] = []
    for number, line in enumerate(text.splitlines()):
        inner = line[: len(line) - len(line.lstrip())]
        width = room - 6 if number == 0 else room  # both marks stand beside a single line
        lines += textwrap.wrap(
            line.strip(),
            width,
            initial_indent=inner,
            subsequent_indent=inner,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    if lines[0].startswith('"'):
        lines[0] = f" {lines[0]}"
    if len(lines) == 1:
        if lines[0].endswith('"') and not lines[0].endswith('\\"\\"\\"'):  # an escaped one can stand there
            lines[0] += " "
        return [f'{indent}"""{lines[0]}"""']
    return [f'{indent}"""{lines[0].rstrip()}', *(f"{indent}{line}".rstrip() for line in lines[1:]), f'{indent}"""']


def exploded(opening: str, parts: Iterable[str], closing: str, indent: str) -> list[str]:
    """Return parts one per line between brackets."""
    return [f"{indent}{opening}", *(f"{indent}    {part}," for part in parts), f"{indent}{closing}"]


def signature(name: str, parameters: Sequence[str], results: Sequence[str], ending: str, indent: str) -> list[str]:
    """Return the lines of a method's ``def``, up to and with ``ending`` (":" or ": ...").

    Args:
        parameters: each as it stands in the source, with ``self``. results: none, one, or the parts of a tuple.
    """
    result = f"tuple[{', '.join(results)}]" if len(results) > 1 else "".join(results) or "None"
    line = f"{indent}def {name}({', '.join(parameters)}) -> {result}{ending}"
    if len(line) <= WIDTH:
        return [line]
    lines = exploded(f"def {name}(", parameters, ")", indent)
    if len(f"{lines[-1]} -> {result}{ending}") <= WIDTH:
        lines[-1] += f" -> {result}{ending}"
        return lines
    return [*lines[:-1], *exploded(") -> tuple[", results, f"]{ending}", indent)]


class Imports:
    """The names a module imports, collected while it is written."""

    def __init__(self) -> None:
        self._absolute: dict[str, set[str]] = {}
        self._relative: dict[str, set[str]] = {}

    def use(self, module: str, name: str) -> str:
        """Note that ``name`` (or "A as B") of ``module`` is used; return it."""
        kind = self._relative if module.startswith(".") else self._absolute
        kind.setdefault(module, set()).add(name)
        return name

    def lines(self, standard: frozenset[str]) -> list[str]:
        """Return the import statements in three groups: ``standard`` modules, others, relative ones."""
        groups = (
            {module: names for module, names in self._absolute.items() if module in standard},
            {module: names for module, names in self._absolute.items() if module not in standard},
            self._relative,
        )
        lines: list[str] = []
        for group in groups:
            if group:
                lines += [*self._group(group), ""]
        return lines

    @staticmethod
    def _group(modules: Mapping[str, set[str]]) -> list[str]:
        lines: list[str] = []
        # More dots come first, as isort has it.
        for module in sorted(modules, key=lambda name: (-_dots(name), name)):
            lines += import_lines(module, sorted(modules[module], key=_isort_key))
        return lines


def import_lines(module: str, names: Sequence[str], suffix: str = "") -> list[str]:
    """Return one ``from`` statement."""
    line = f"from {module} import {', '.join(names)}{suffix}"
    return [line] if len(line) <= WIDTH else exploded(f"from {module} import ({suffix}", names, ")", "")


def _dots(module: str) -> int:
    return len(module) - len(module.lstrip("."))


def _isort_key(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Constants, classes, then the rest, numbers by their value: the order of isort and ruff."""
    first = name.split(" ")[0]
    natural = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]
    if first.isupper() and len(first) > 1:
        return 0, natural
    return (1, natural) if first[:1].isupper() else (2, natural)
