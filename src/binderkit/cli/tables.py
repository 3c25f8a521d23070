"""Printing tables: as wide as a terminal is, and whole where a pipe or file reads them."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

_WHOLE: Final = 10_000
"""Columns, enough for every row: rich takes 80 where there is no terminal, and cuts names off."""


def print_table(table: Table) -> None:
    """Print a table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WHOLE)
    console.print(table)
