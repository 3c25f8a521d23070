"""The documents tell the truth where a program can check it: links, byte tables, numbers, names of tests."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from binderkit import limits
from binderkit.driver.unix import frame

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "PROTOCOL.md", "SECURITY.md", "docs/differences.md", "CHANGELOG.md")
PROTOCOL = (ROOT / "PROTOCOL.md").read_text()


def section(number: int) -> str:
    """Return one section of PROTOCOL.md."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", PROTOCOL, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group()


def layout(number: int) -> list[tuple[int, int]]:
    """Return (offset, size) of the rows of a section's byte table."""
    table = section(number).split("| at | size |", 1)[1]
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", table.split("\n\n", 1)[0], re.MULTILINE)
    return [(int(at), int(size)) for at, size in rows]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if "://" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize(("number", "size"), [(3, frame.CONTROL_SIZE), (5, frame.HEADER_SIZE), (6, frame.ENTRY.size)])
def test_byte_tables_have_no_gap_and_the_size_of_the_struct(number: int, size: int) -> None:
    rows = layout(number)
    assert rows[0][0] == 0
    assert all(at + width == following for (at, width), (following, _) in pairwise(rows))
    assert sum(rows[-1]) == size


def test_fields_of_the_lane_header_lie_where_the_table_says() -> None:
    """One frame whose fields are all different; each is found at its offset."""
    fields = (1, 2, 3, 4, 5, -6, 7, 8, 9, 10, 11, 12, 13)
    packed = frame.HEADER.pack(*fields)
    found = [int.from_bytes(packed[at : at + size], "little", signed=at == 16) for at, size in layout(5)]
    assert tuple(found) == fields


def test_control_messages_have_the_numbers_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", section(3), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(frame.HELLO, frame.HOME_RECEIVED + 1))
    assert all(getattr(frame, name) == int(number) for number, name in rows)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("at most 94 256 bytes", frame.PACKET_MAX == 94_256),
        ("at most\n1364", frame.MAX_PAIRS == 1364),
        ("204 800 bytes", limits.MAX_TRANSACTION == 204_800),
        ("520 192 bytes", limits.ONEWAY_BUDGET == 520_192),
        ("data area above 64 KiB", limits.INLINE_BODY == 64 * limits.KIB),
        ("above 32 KiB", limits.RAW_DATA_INLINE == 32 * limits.KIB),
        ("| 1024 rows", limits.MAX_OBJECTS_PER_MESSAGE == 1024),
        ("| 253 |", limits.MAX_FDS_PER_MESSAGE == 253),
        ("| lanes per peer | 256 |", limits.MAX_LANES_PER_PEER == 256),
        ("| 64 |", limits.MAX_SLOTS_PER_PEER == 64),
        ("| 20 000 objects |", limits.MAX_REFERENCES_PER_PEER == 20_000),
        ("8192, of one user 4096", (limits.MAX_PEERS, limits.MAX_PEERS_PER_USER) == (8192, 4096)),
        ("| 100 000 pairs of one peer |", limits.MAX_DEFERRED_RELEASES == 100_000),
        ("complete 5 s after", limits.HANDSHAKE_WAIT == 5),
    ],
)
def test_numbers_of_the_protocol_are_those_of_the_code(text: str, value: bool) -> None:
    assert text in PROTOCOL
    assert value


def test_architecture_names_tests_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:contract|driver|ipc|memory|parcel|samgr)/[\w/]*test_\w+\.py)`", text))
    assert named
    assert not [name for name in sorted(named) if not (ROOT / "tests" / name).exists()]
