"""Tables: nothing is cut off in a pipe."""

from __future__ import annotations

import pytest
from rich.table import Table

from binderkit.cli.tables import print_table


def test_a_pipe_gets_whole_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", "text", box=None)
    table.add_row("n" * 100, "t" * 100)
    print_table(table)
    assert f"{'n' * 100}  {'t' * 100}" in capsys.readouterr().out
