"""The documents tell the truth where a program can check it: links, byte tables, numbers, names of tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import binderkit
from binderkit import limits
from binderkit.ability.contracts import IAbilityConnection, IAbilityHost, IAbilityManager, IAbilityScheduler
from binderkit.driver.unix import frame
from binderkit.interface import codes
from binderkit.samgr import codes as samgr_codes
from binderkit.samgr.events import ICommonEvents, ICommonEventSubscriber, IParameters, IParameterWatcher
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.service import SystemAbilityManager
from tests.document_session import blocks

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "PROTOCOL.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/abilities.md",
    "docs/differences.md",
    "docs/idl.md",
    "docs/interfaces.md",
    "docs/services.md",
    "docs/testing.md",
)
GUIDES = ("docs/abilities.md", "docs/idl.md", "docs/interfaces.md", "docs/services.md")
"""Documents whose blocks a reader can type in; docs/testing.md has a test of its own."""
SESSION = ROOT / "tests" / "document_session.py"
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
        ("at most 102 400; the elements", limits.MAX_ELEMENTS == 102_400),
        ("codes 1 … 0xFFFFEF", codes.LAST_METHOD == 0xFFFFEF),
        ("Error code 20 000 + n", codes.RAISED == 20_000),
    ],
)
def test_numbers_of_the_protocol_are_those_of_the_code(text: str, value: bool) -> None:
    assert text in PROTOCOL
    assert value


def test_reserved_codes_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (0xFFFF\w\w) \| ([A-Z_]+) \|", section(10), re.MULTILINE)
    assert [int(number, 16) for number, _ in rows] == list(range(codes.GET_VERSION, codes.UNWATCH - 1, -1))
    assert all(getattr(codes, name) == int(number, 16) for number, name in rows)


def test_samgrs_transactions_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", section(15), re.MULTILINE)
    assert all(getattr(samgr_codes, name) == int(number) for number, name in rows)
    tokens = {samgr_codes.TOKEN_OF_PID, samgr_codes.VERIFY_TOKEN, samgr_codes.TOKEN_INFO}
    parts = tokens | {samgr_codes.RELOAD_PROFILES}  # of other parts of the daemon
    assert {int(number) for number, _ in rows} == set(SystemAbilityManager()._operations) | parts


def test_contracts_of_the_table_have_the_tokens_it_says() -> None:
    contracts = (
        ILocalAbilityManager,
        IAbilityManager,
        IAbilityConnection,
        IAbilityHost,
        IAbilityScheduler,
        ICommonEvents,
        ICommonEventSubscriber,
        IParameters,
        IParameterWatcher,
    )
    table = section(15).split("| object | token |", 1)[1]
    assert re.findall(r"`((?:OHOS|ohos|binderkit)\.[\w.]+)`", table) == [
        one.__contract__.descriptor for one in contracts
    ]


@pytest.mark.parametrize("guide", GUIDES)
def test_the_blocks_of_a_guide_do_what_it_says(guide: str, tmp_path: Path, runtime_dir: Path) -> None:
    """Files are written, lines typed and commands run as a reader would; what comes out is what the guide shows."""
    folder, result = tmp_path / "reader", tmp_path / "result.json"
    folder.mkdir()
    source = str(Path(binderkit.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SESSION), str(ROOT / guide), str(result)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "BINDERKIT_RUNTIME_DIR": str(runtime_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # services log what their handlers raise, so it is not empty
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout
    places = {str(folder): "/home/ada/photos", str(runtime_dir): "/run/user/1000/binderkit"}
    outputs = [same_everywhere(text, places) for text in json.loads(result.read_text())]
    assert outputs == [same_everywhere(text, {}) for text in expected_outputs(blocks(ROOT / guide))]


def expected_outputs(found: list[tuple[str, str]]) -> list[str]:
    """Return what a guide shows for each block that is run: the ``text`` behind it, or a console as it is."""
    return [
        text if language == "console" else after if following == "text" else ""
        for (language, text), (following, after) in pairwise([*found, ("", "")])
        if language in ("python", "console")
    ]


def same_everywhere(text: str, places: dict[str, str]) -> str:
    """Return an output without what differs from run to run: numbers of processes, users, times, widths, folders."""
    for place, name in places.items():
        text = text.replace(place, name)
    text = re.sub(r"\b(process|pid) \d+\b", r"\1 4711", text)
    text = re.sub(r"\(uid \d+\)", "(uid 1000)", text)
    text = re.sub(r"\(token 0x[0-9a-f]+\)", "(token 0x1234abcd)", text)
    text = re.sub(r"\b\d+ ms$", "150 ms", text, flags=re.MULTILINE)
    text = re.sub(r" +", " ", text)  # columns are as wide as the numbers in them
    text = re.sub(r"^(\d+ 0x\S+ \S+) \d+ \d+ ", r"\1 4711 1000 ", text, flags=re.MULTILINE)  # binderkit list
    text = re.sub(r"^(\S+) \d+ \d+ (?=[A-Z]+)", r"\1 4711 1000 ", text, flags=re.MULTILINE)  # binderkit processes
    return re.sub(r" $", "", text, flags=re.MULTILINE)


def test_architecture_names_tests_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(
        re.findall(r"`((?:ability|contract|driver|interface|ipc|memory|parcel|samgr|stress)/[\w/]*test_\w+\.py)`", text)
    )
    assert named
    assert not [name for name in sorted(named) if not (ROOT / "tests" / name).exists()]
