"""The documents tell the truth where a program can check it: links, byte tables, numbers, names of tests."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest

import binderkit
from binderkit import limits
from binderkit.ability.contracts import (
    IAbilityConnection,
    IAbilityHost,
    IAbilityManager,
    IAbilityScheduler,
    IDistributedScheduler,
    IPeerScheduler,
)
from binderkit.dbinder import wire
from binderkit.dbinder.peer_abilities import IPeerAbilities
from binderkit.driver.kernel import meeting
from binderkit.driver.kernel import protocol as kernel
from binderkit.driver.unix import frame
from binderkit.interface import codes
from binderkit.ipc import invocation, proxy
from binderkit.samgr import codes as samgr_codes
from binderkit.samgr.events import ICommonEvents, ICommonEventSubscriber, IParameters, IParameterWatcher
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.remote import IAbilityWatcher, IDBinder
from binderkit.samgr.service import SystemAbilityManager
from binderkit.softbus import bulk_port, lane, messages, pairing_session, session_frames
from binderkit.softbus.contracts import IDeviceWatcher, IFinder, IPairingWatcher, ISoftBus
from binderkit.softbus.session_contracts import ISessionListener, ISessions
from tests.document_session import blocks

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "PROTOCOL.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/abilities.md",
    "docs/devices.md",
    "docs/differences.md",
    "docs/idl.md",
    "docs/interfaces.md",
    "docs/kernel.md",
    "docs/services.md",
    "docs/testing.md",
)
GUIDES = (
    "docs/abilities.md",
    pytest.param("docs/devices.md", marks=pytest.mark.slow),
    "docs/idl.md",
    "docs/interfaces.md",
    "docs/kernel.md",
    "docs/services.md",
)
"""Documents whose blocks a reader can type in; docs/testing.md has a test of its own."""
LONELY = {
    "BINDERKIT_SOFTBUS_LISTEN": "127.0.0.1",
    "BINDERKIT_SOFTBUS_GROUP": f"224.0.0.224:{random.randrange(20_000, 60_000)}",
}
"""The devices of a guide see each other, and nobody else."""
SESSION = ROOT / "tests" / "document_session.py"
PROTOCOL = (ROOT / "PROTOCOL.md").read_text()


def section(number: int) -> str:
    """Return one section of PROTOCOL.md."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", PROTOCOL, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group()


def layout(number: int, which: int = 1) -> list[tuple[int, int]]:
    """Return (offset, size) of the rows of a section's byte table, the first one or another."""
    table = section(number).split("| at | size |")[which]
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", table.split("\n\n", 1)[0], re.MULTILINE)
    return [(int(at), int(size)) for at, size in rows]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if "://" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("number", "which", "size"),
    [
        (3, 1, frame.CONTROL_SIZE),
        (5, 1, frame.HEADER_SIZE),
        (6, 1, frame.ENTRY.size),
        (17, 1, messages._CALL.size),
        (17, 2, messages._ONEWAY.size),
        (18, 1, wire._HEADER.size),
        (18, 2, wire._REPLY.size),
        (18, 3, wire._ENTRY.size + wire._OBJECT.size),
        (18, 4, wire._ENTRY.size + wire._BLOB.size),
        (19, 1, bulk_port._HELLO.size),
        (19, 2, lane._REQUEST.size),
        (20, 1, session_frames.HEADER_SIZE),
        (23, 1, kernel.TRAILER_SIZE),
    ],
)
def test_byte_tables_have_no_gap_and_the_size_of_the_struct(number: int, which: int, size: int) -> None:
    rows = layout(number, which)
    assert rows[0][0] == 0
    assert all(at + width == following for (at, width), (following, _) in pairwise(rows))
    assert sum(rows[-1]) == size


@pytest.mark.parametrize(
    ("number", "which", "packed"),
    [
        (17, 1, messages._CALL.pack(1, 0, 2, 3, b"4" * 8, b"5" * 8, 6)),
        (17, 2, messages._ONEWAY.pack(1, 0, 0, 2, b"3" * 8, b"4" * 8, 5)),
        (18, 1, wire._HEADER.pack(1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0)),
        (18, 2, wire._REPLY.pack(1, 0x80, 0, 2, 3, 4, 5, 6, 7, 0, 8, 0)),
        (20, 1, session_frames._HEADER.pack(1, 2, 3, 0, 4)),
    ],
)
def test_fields_between_devices_have_the_widths_of_the_tables(number: int, which: int, packed: bytes) -> None:
    """Values that differ; each field of the table holds one of them, and nothing else."""
    found = [packed[at : at + size] for at, size in layout(number, which)]
    assert all(one.strip(b"\0") == bytes([one[0]]) or len(set(one)) == 1 for one in found)
    assert b"".join(found) == packed


def test_actions_kinds_and_statuses_are_those_of_the_tables() -> None:
    for number, enum in ((17, messages.Status), (18, wire.Action), (20, session_frames.Kind)):
        rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", section(number), re.MULTILINE)
        assert rows == [(str(int(one)), one.name) for one in enum]
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", section(21), re.MULTILINE)
    assert rows == [(str(int(one)), one.name) for one in pairing_session._Kind]


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
        ("(at most 1 MiB + 64 KiB)", limits.RPC_PAYLOAD == limits.MIB + 64 * limits.KIB),
        ("up to 32 of them each way", limits.RPC_LANES == 32),
        ("| slot, below 256 |", limits.RPC_CALLS_PER_DEVICE == 256),
        (
            "16 s more, at most 16 MiB for each",
            (limits.RPC_REPLY_KEPT, limits.RPC_STORED_REPLIES) == (16, 16 * limits.MIB),
        ),
        ("at most 256 messages, or 1 MiB", (limits.RPC_ONEWAY_MESSAGES, limits.RPC_ONEWAY_BYTES) == (256, limits.MIB)),
        ("the content (up to 256 KiB)", limits.RPC_INLINE_BLOB == 256 * limits.KIB),
        ("with 160 bytes", invocation.TRAILER_SIZE == 160),
        ("0x5F525043", proxy.REMOTE_TRANSACTION == 0x5F525043),
        ("good for one device, for 60 s", limits.BULK_KEPT == 60),
        ("Up to 2 idle streams of a device are kept for 30 s", (limits.BULK_IDLE_STREAMS, limits.BULK_IDLE) == (2, 30)),
        ("u32 size (at most 64 KiB), a kind byte", limits.MAX_PAIRING_FRAME == 64 * limits.KIB),
        ("| 0x01000000 |", kernel.TF_OURS == 0x01000000),
        ("| 0x02000000 |", kernel.TF_TRAILER == 0x02000000),
        ("| 0x04000000 |", kernel.TF_SHARED_BODY == 0x04000000),
        ("0x10000 an object of this package", kernel.NODE_OURS == 0x10000),
        ("0x20000 one that stands", kernel.NODE_FOREIGN == 0x20000),
        ("cookie 0x626C6F62", kernel.BLOB_COOKIE == 0x626C6F62),
        ("| 0x5F4F574E |", kernel.OWNER_TRANSACTION == 0x5F4F574E),
        ("| 0x5F43414E |", kernel.CANCEL_TRANSACTION == 0x5F43414E),
        ("| 0x5F4F4652 |", kernel.OFFER_TRANSACTION == 0x5F4F4652),
        ("| 0x5F544B45 |", kernel.TAKE_TRANSACTION == 0x5F544B45),
        ("| 0x5F484C44 |", kernel.HOLDERS_TRANSACTION == 0x5F484C44),
        ("at most 64 of one process wait", meeting.MAX_OFFERED == 64),
        ("in pieces of 200 bytes, at most 512", limits.MAX_CAPABILITY_DATA == 512),
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
        ISoftBus,
        IDBinder,
        IAbilityWatcher,
        IPeerAbilities,
        ISessions,
        ISessionListener,
        IDeviceWatcher,
        IFinder,
        IPairingWatcher,
        IDistributedScheduler,
        IPeerScheduler,
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
        env={**os.environ, **LONELY, "PYTHONPATH": path, "BINDERKIT_RUNTIME_DIR": str(runtime_dir)},
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
    text = re.sub(r"\b[0-9a-f]{64}\b", "51e054daa34ebd38" * 4, text)  # UDIDs
    text = re.sub(r"\b[0-9a-f]{16}\b", "51e054daa34ebd38", text)  # how they, and network ids, begin
    text = re.sub(r"\bPIN \d{6}\b", "PIN 482913", text)
    text = re.sub(r"\b127\.0\.0\.1:\d+", "127.0.0.1:40123", text)
    text = re.sub(r"\bobject=0x[0-9a-f]+", "object=0x1234", text)
    text = re.sub(r"\bdevice([ =])[0-9a-f]{8}\b", r"device\g<1>51e054da", text)
    peer = "<Peer <Caller pid=4711 uid=1000>>"
    text = re.sub(r"\bhandle=\d+ of <Peer <Caller pid=\d+ uid=\d+>>", f"handle=687200001 of {peer}", text)
    text = re.sub(r" +", " ", text)  # columns are as wide as the numbers in them
    text = re.sub(r"^(\d+ 0x\S+ \S+) \d+ \d+ ", r"\1 4711 1000 ", text, flags=re.MULTILINE)  # binderkit list
    text = re.sub(r"^(\S+) \d+ \d+ (?=[A-Z]+)", r"\1 4711 1000 ", text, flags=re.MULTILINE)  # binderkit processes
    return re.sub(r" $", "", text, flags=re.MULTILINE)


def test_architecture_names_tests_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(
        re.findall(
            r"`((?:ability|contract|dbinder|driver|interface|ipc|memory|parcel|samgr|softbus|stress)/[\w/]*test_\w+\.py)`",
            text,
        )
    )
    assert named
    assert not [name for name in sorted(named) if not (ROOT / "tests" / name).exists()]


def test_architecture_names_every_module_between_devices() -> None:
    """Each module of softbus and dbinder stands in a table; ``trust*`` stands for all that begin so."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in ("softbus", "dbinder"):
        table = text.split(f"| module of `{package}` | owns |", 1)[1].split("\n\n", 1)[0]
        named = re.findall(r"`([a-z_]+\*?)`", "\n".join(row.split("|")[1] for row in table.splitlines()[2:]))
        modules = [one.stem for one in (ROOT / "src/binderkit" / package).glob("*.py") if one.stem != "__init__"]
        assert not [one for one in modules if not any(fnmatch(one, name) for name in named)]
        assert not [name for name in named if not any(fnmatch(one, name) for one in modules)]
