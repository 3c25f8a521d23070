"""The command line: which cases are named, and who takes part in them."""

from __future__ import annotations

import argparse

import pytest

from bench import __main__ as main
from bench import cases
from bench.peers import registry


@pytest.fixture
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "installed", lambda name: True)


def test_a_case_is_named_by_itself_or_by_a_pattern() -> None:
    assert main._arguments(["--only", "echo", "--only", "discovery*"]).only == [
        "echo", "discovery", "discovery-trusted"]  # fmt: skip
    assert main._arguments([]).only == []
    with pytest.raises(argparse.ArgumentTypeError, match="there are echo, "):
        main._cases("ekko")


@pytest.mark.usefixtures("everything_installed")
@pytest.mark.parametrize(
    ("chosen", "peers", "names"),
    [
        (["echo"], True, registry.NAMES),
        (["import"], True, registry.NAMES),
        (["echo"], False, ("binderkit",)),
        (["remote-crowd"], True, registry.REMOTE_NAMES),
        (["remote-crowd"], False, ("binderkit RPC",)),
        (["remote"], False, ("binderkit RPC", "zenoh")),
        (["echo", "remote"], True, registry.NAMES + registry.REMOTE_NAMES),
        (cases.NAMES, True, registry.NAMES + registry.REMOTE_NAMES),
    ],
)
def test_only_those_take_part_who_are_needed(chosen: list[str], peers: bool, names: tuple[str, ...]) -> None:
    assert tuple(main._contenders(chosen, peers)) == names


def test_what_is_not_installed_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "installed", lambda name: name != "zenoh")
    assert main._contenders(["remote"], False) == ["binderkit RPC"]
    assert "left out: zenoh" in capsys.readouterr().err
