"""What the demo prints: numbered steps with their times, and why a step failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text


class StepFailed(Exception):
    """A step of the demo did not do what it should; the text says what was seen instead."""


def check(condition: bool, otherwise: str) -> None:
    """Raise StepFailed with the text ``otherwise`` unless ``condition`` holds."""
    if not condition:
        raise StepFailed(otherwise)


class Report:
    """Prints the steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._start = time.perf_counter()

    def title(self, text: str, explanation: str) -> None:
        """Print the head."""
        self._console.print(f"[bold]{escape(text)}[/]")
        self._console.print(f"[dim]{escape(explanation)}[/]\n")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Time what is done inside; print the step's line before, and how long it took after its notes."""
        self._number += 1
        self._console.print(f"[bold cyan]{self._number:>2}[/]  [bold]{escape(text)}[/]")
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            self._console.print("    [bold red]✗ failed[/]")
            raise
        self._console.print(f"    [green]✓[/] [dim]{(time.perf_counter() - start) * 1e3:.1f} ms[/]")

    def note(self, text: str) -> None:
        """Print a line under the current step."""
        self._console.print(Padding(Text(text), (0, 0, 0, 4), expand=False))

    def failure(self, text: str) -> None:
        """Print why the demo ends early."""
        self._console.print(f"\n[bold red]The demo failed:[/] {escape(text)}")

    def end(self, text: str) -> None:
        """Print the last line with the time of everything."""
        self._console.print(f"\n[bold green]✓ {escape(text)}[/] [dim]{time.perf_counter() - self._start:.1f} s[/]")
