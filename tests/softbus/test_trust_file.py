"""binderkit.softbus.trust_file: the circle on disk."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import SoftBusError
from binderkit.softbus.identity import write_private
from binderkit.softbus.trust_file import TrustDocument, _document, load_document, save_document

DOCUMENT = TrustDocument("name", "linux", b"ca", b"certificate", b"\0\xff", b"key", frozenset({"b", "a"}))


def test_what_is_saved_is_loaded_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    save_document(path, DOCUMENT)
    assert load_document(path) == DOCUMENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save_document(path, replace(DOCUMENT, authority_pem=b""))
    assert b"key" not in bytes.fromhex(json.loads(path.read_bytes())["authority_pem"])


def test_secrets_show_in_no_repr() -> None:
    assert "b'key'" not in repr(DOCUMENT)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    save_document(path, DOCUMENT)
    path.chmod(0o644)
    with pytest.raises(SoftBusError, match="0644"):
        load_document(path)


@pytest.mark.parametrize("change", [{"format": 2}, {"extra": 1}, {"name": 1}, {"ca_pem": "xyz"}, {"blocked": [1]}])
def test_a_field_that_is_wrong_is_refused_and_the_file_left_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "trust.json"
    save_document(path, DOCUMENT)
    content = json.dumps({**json.loads(path.read_bytes()), **change}).encode()
    write_private(path, content)
    with pytest.raises(SoftBusError, match="restore it"):
        load_document(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b"null", b"\xff"])
def test_what_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / "trust.json", content)
    with pytest.raises(SoftBusError):
        load_document(tmp_path / "trust.json")


_JSON = st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda one: st.lists(one, max_size=3))


@given(st.dictionaries(st.sampled_from(["name", "device_type", "ca_pem", "blocked", "format"]), _JSON))
def test_any_table_is_a_document_or_a_mistake(change: dict[str, Any]) -> None:
    row: dict[str, Any] = {
        "format": 1, "name": "n", "device_type": "t", "ca_pem": "", "certificate_pem": "", "roster": "",
        "authority_pem": "", "blocked": [],
    }  # fmt: skip
    try:
        _document({**row, **change})
    except ValueError:
        assert change
