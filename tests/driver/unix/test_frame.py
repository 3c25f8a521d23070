"""Frames: any bytes give a frame or a ProtocolError; every single lie is refused; golden bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import BODY_OFFSET, ENTRY, HEADER, HEADER_SIZE, Entry
from binderkit.errors import ProtocolError

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "golden" / "frames.json").read_text())


def packet(
    data: bytes = b"",
    rows: tuple[tuple[int, int, int, int, int], ...] = (),
    *,
    version: int = 1,
    kind: int = frame.CALL,
    flags: int = 0,
    size: int | None = None,
    objects: int | None = None,
    fds: int = 0,
    extensions: bytes = b"",
    extra: int | None = None,
) -> bytes:
    """Return a packet that says exactly what it is told to say, true or not."""
    header = HEADER.pack(
        version,
        kind,
        flags,
        1,
        2,
        3,
        0,
        4,
        len(data) if size is None else size,
        len(rows) if objects is None else objects,
        fds,
        0,
        len(extensions) if extra is None else extra,
    )
    return header + data + b"".join(ENTRY.pack(*row) for row in rows) + extensions


# --- golden bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", [g for g in GOLDEN if "lane" in g], ids=lambda g: g["name"])
def test_golden_lane_frame(golden: dict[str, Any]) -> None:
    raw, told = bytes.fromhex(golden["hex"]), golden["lane"]
    entries = [Entry(*row) for row in told["entries"]]
    fields = (told["kind"], told["flags"], told["seq"], told["handle"], told["code"], told["remaining"], told["chain"])
    data = bytes.fromhex(told["data"])
    got = frame.decode(raw)
    assert got == (*fields, told["freed"], data, tuple(entries), told["fds"])
    if not told["flags"] & frame.FLAG_EXTENSIONS:  # this version reads extensions, it writes none
        assert frame.encode(*fields, told["freed"], data, entries, told["fds"]) == raw


@pytest.mark.parametrize("golden", [g for g in GOLDEN if "control" in g], ids=lambda g: g["name"])
def test_golden_control_message(golden: dict[str, Any]) -> None:
    raw, told = bytes.fromhex(golden["hex"]), golden["control"]
    got = frame.decode_control(raw)
    assert (got.kind, got.number) == (told["kind"], told["number"])
    if "pairs" in told:
        pairs = [(first, second) for first, second in told["pairs"]]
        assert frame.decode_pairs(got) == pairs
        assert frame.encode_pairs(got.kind, pairs) == raw
    elif "node" in told:
        assert frame.decode_hello(got) == bytes.fromhex(told["node"])
        if raw[4] == frame.VERSION:
            assert frame.encode_hello(bytes.fromhex(told["node"])) == raw
    else:
        assert got.payload == bytes.fromhex(told["payload"])
        assert frame.encode_control(got.kind, got.payload, got.number) == raw


def test_every_kind_has_golden_bytes() -> None:
    lanes = {g["lane"]["kind"] for g in GOLDEN if "lane" in g}
    controls = {g["control"]["kind"] for g in GOLDEN if "control" in g}
    assert lanes == {frame.CALL, frame.ONEWAY, frame.REPLY}
    assert controls == set(range(frame.HELLO, frame.HOME_RECEIVED + 1))


# --- any bytes -------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_decode_takes_any_bytes(raw: bytes) -> None:
    try:
        got = frame.decode(raw)
    except ProtocolError:
        return
    assert len(got.data) <= len(raw)


@given(st.binary(max_size=24 * 4), st.integers(0, 5), st.integers(0, 4), st.integers(0, 40), st.integers(0, 20))
def test_decode_takes_any_table(tail: bytes, objects: int, fds: int, size: int, extra: int) -> None:
    """With a good header in front, so that the table is what is judged."""
    header = HEADER.pack(1, 1, int(extra > 0), 1, 1, 1, 0, 1, size, objects, fds, 0, extra)
    try:
        got = frame.decode(header + tail)
    except ProtocolError:
        return
    assert len(got.entries) == objects
    assert sorted(e.fd for e in got.entries if e.fd >= 0) == list(range(fds))
    assert all(e.offset == BODY_OFFSET or e.offset + 24 <= size for e in got.entries) or any(
        e.offset == BODY_OFFSET for e in got.entries
    )


@given(st.binary(max_size=100))
def test_decode_control_takes_any_bytes(raw: bytes) -> None:
    for candidate in (raw, frame.MAGIC + raw, frame.encode_control(frame.RELEASE, raw, 3)):
        try:
            got = frame.decode_control(candidate)
            frame.decode_pairs(got)
            frame.decode_hello(got)
        except ProtocolError:
            continue


@given(
    st.sampled_from([frame.CALL, frame.ONEWAY, frame.REPLY]),
    st.sampled_from([0, frame.FLAG_FAILED]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([1, 2, 3, 4, 5, 6]), max_size=12),
    st.binary(max_size=64),
    st.integers(0, 2**64 - 1),
)
def test_round_trip(
    kind: int,
    flags: int,
    seq: int,
    handle: int,
    code: int,
    remaining: int,
    chain: int,
    freed: int,
    kinds: list[int],
    tail: bytes,
    number: int,
) -> None:
    fds = 0
    entries = []
    for at, object_kind in enumerate(kinds):
        has_fd = object_kind in (frame.OBJ_INTRODUCED, frame.OBJ_FD, frame.OBJ_NEW_SLOT)
        entries.append(Entry(at * 24, object_kind, fds if has_fd else -1, number, number ^ at))
        fds += has_fd
    data = bytes(24 * len(kinds)) + tail
    raw = frame.encode(kind, flags, seq, handle, code, remaining, chain, freed, data, entries, fds)
    assert frame.decode(raw) == (
        kind, flags, seq, handle, code, remaining, chain, freed, data, tuple(entries), fds,
    )  # fmt: skip


# --- every single lie ------------------------------------------------------------------------------

RECORD = bytes(24)
LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "header alone"),
    "half a header": (packet()[:-1], "header alone"),
    "version 0": (packet(version=0), "version 0"),
    "version 2": (packet(version=2), "version 2"),
    "kind 0": (packet(kind=0), "unknown kind 0"),
    "kind 4": (packet(kind=4), "unknown kind 4"),
    "unknown flag": (packet(flags=4), "unknown flags"),
    "data area longer than the packet": (packet(b"abcd", size=5), "announces 53 bytes came with 52"),
    "data area shorter than the packet": (packet(b"abcd", size=3), "announces 51 bytes came with 52"),
    "4 GiB of data": (packet(size=0xFFFFFFFF), "announces"),
    "objects without rows": (packet(objects=1), "announces"),
    "too many objects": (packet(objects=limits.MAX_OBJECTS_PER_MESSAGE + 1), "1025 objects"),
    "too many descriptors": (packet(fds=limits.MAX_FDS_PER_MESSAGE + 1), "254 descriptors"),
    "too many extension bytes": (packet(flags=1, extra=frame.MAX_EXTENSIONS + 1), "4097 extension"),
    "extensions without the flag": (packet(extensions=bytes(8)), "disagree"),
    "the flag without extensions": (packet(flags=1), "disagree"),
    "half an extension header": (packet(flags=1, extensions=bytes(7)), "truncated extension"),
    "an extension past the end": (packet(flags=1, extensions=struct.pack("<HHI", 1, 0, 1)), "past the end"),
    "descriptors nobody uses": (packet(fds=1), "each used once"),
    "object kind 0": (packet(RECORD, ((0, 0, 0, 1, 0),)), "unknown kind 0"),
    "object kind 8": (packet(RECORD, ((0, 8, 0, 1, 0),)), "unknown kind 8"),
    "descending offsets": (packet(RECORD * 2, ((24, 1, 0, 1, 0), (0, 1, 0, 1, 0))), "ascending"),
    "one record twice": (packet(RECORD * 2, ((0, 1, 0, 1, 0), (0, 1, 0, 1, 0))), "ascending"),
    "a record past the end": (packet(RECORD, ((1, 1, 0, 1, 0),)), "record at 1 of a data area of 24"),
    "a descriptor without descriptor": (packet(RECORD, ((0, frame.OBJ_FD, 0, 1, 0),)), "belong together"),
    "an export with a descriptor": (packet(RECORD, ((0, 1, 1, 1, 0),), fds=1), "belong together"),
    "a descriptor that is not there": (packet(RECORD, ((0, frame.OBJ_FD, 2, 1, 0),), fds=1), "not there"),
    "a descriptor used twice": (
        packet(RECORD * 2, ((0, frame.OBJ_FD, 1, 1, 0), (24, frame.OBJ_FD, 1, 1, 0)), fds=2),
        "another's",
    ),
    "an export as the body": (packet(b"", ((BODY_OFFSET, 1, 0, 1, 0),)), "shared body"),
    "a shared body beside an inline one": (packet(b"abcd", ((BODY_OFFSET, frame.OBJ_SLOT, 0, 1, 4),)), "shared body"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(lie: str) -> None:
    raw, words = LIES[lie]
    with pytest.raises(ProtocolError, match=words):
        frame.decode(raw)


@given(st.data())
def test_a_truncated_or_padded_frame_is_refused(data: st.DataObject) -> None:
    raw = bytes.fromhex(data.draw(st.sampled_from([g["hex"] for g in GOLDEN if "lane" in g])))
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(ProtocolError):
        frame.decode(raw[:cut])
    with pytest.raises(ProtocolError):
        frame.decode(raw + data.draw(st.binary(min_size=1, max_size=50)))


CONTROL_LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "header alone"),
    "another protocol": (b"HTTP" + frame.encode_control(frame.CREDIT)[4:], "does not speak binderkit"),
    "version 2": (frame.CONTROL.pack(b"BKIT", 2, frame.CREDIT, 0, 0, 0), "version 2"),
    "kind 15": (frame.encode_control(15), "unknown kind 15"),
    "kind 29": (frame.encode_control(29), "unknown kind 29"),
    "flags": (frame.CONTROL.pack(b"BKIT", 1, frame.CREDIT, 1, 0, 0), "flags 0x1"),
    "size too large": (frame.CONTROL.pack(b"BKIT", 1, frame.CREDIT, 0, 0, 1), "announces 1 bytes came with 0"),
    "size too small": (frame.encode_control(frame.CREDIT) + b"x", "announces 0 bytes came with 1"),
}


@pytest.mark.parametrize("lie", CONTROL_LIES)
def test_a_lie_in_a_control_message_is_refused(lie: str) -> None:
    raw, words = CONTROL_LIES[lie]
    with pytest.raises(ProtocolError, match=words):
        frame.decode_control(raw)


@pytest.mark.parametrize(("count", "size"), [(1, 0), (0, 12), (2, 12), (1, 13), (frame.MAX_PAIRS + 1, 12)])
def test_pairs_that_do_not_add_up_are_refused(count: int, size: int) -> None:
    message = frame.decode_control(frame.encode_control(frame.RELEASE, bytes(size), count))
    with pytest.raises(ProtocolError, match="pairs"):
        frame.decode_pairs(message)


def test_as_many_pairs_as_fit_into_one_control_message() -> None:
    pairs = [(number, number) for number in range(frame.MAX_PAIRS)]
    raw = frame.encode_pairs(frame.RELEASE, pairs)
    assert len(raw) <= frame.CONTROL_MAX
    assert frame.decode_pairs(frame.decode_control(raw)) == pairs


def test_hello_without_a_common_version_says_which() -> None:
    hello = frame.decode_control(frame.encode_control(frame.HELLO, struct.pack("<HHI16s", 2, 5, 0, bytes(16))))
    with pytest.raises(ProtocolError, match="we speak 1, the other side 2 to 5"):
        frame.decode_hello(hello)


def test_short_hello_is_refused() -> None:
    with pytest.raises(ProtocolError, match="expected HELLO"):
        frame.decode_hello(frame.decode_control(frame.encode_control(frame.HELLO, bytes(23))))


def test_shared_bytes_counts_what_is_beside_the_packet() -> None:
    rows = ((0, frame.OBJ_SLOT, 0, 1, 40_000), (24, frame.OBJ_NEW_SLOT, 1, 2, 262_144 << 32 | 50_000))
    assert frame.decode(packet(RECORD * 2, rows, fds=1)).shared_bytes() == 90_000
    assert HEADER_SIZE == 48
