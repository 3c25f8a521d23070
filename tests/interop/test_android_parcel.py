"""interop/android_parcel.py: golden bytes of every generation, round trips, and bytes nobody meant well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import (
    InvalidObjectError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    ParcelReadError,
    ParcelWriteError,
    RemoteError,
    TooBigError,
)
from binderkit.interop.android_parcel import (
    AIDL,
    AIDL2,
    AIDL3,
    AIDL4,
    EX_ILLEGAL_ARGUMENT,
    EX_SERVICE_SPECIFIC,
    NO_WORK_SOURCE,
    STRICT_MODE_POLICY,
    SYSTEM_TAG,
    VENDOR_TAG,
    AndroidParcel,
    RequestHeader,
    Stability,
    Wire,
    layout_of,
)
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_FD, KIND_REMOTE, OwnedFd

WIRES = (AIDL, AIDL2, AIDL3, AIDL4)
NAMES = [wire.name for wire in WIRES]
every_wire = pytest.mark.parametrize("wire", WIRES, ids=NAMES)

INTERFACE = "android.os.IServiceManager"
INTERFACE_BYTES = "1a000000" + "".join(f"{ord(letter):02x}00" for letter in INTERFACE) + "00000000"
NULL_RECORD = "852a6273" + "00" * 20
STUB_RECORD = NULL_RECORD  # the first object of a sequence; what tells them apart is the table of objects

HEADERS = {
    AIDL: "00004000" + INTERFACE_BYTES,
    AIDL2: "00004000ffffffff" + INTERFACE_BYTES,
    AIDL3: "00004000ffffffff54535953" + INTERFACE_BYTES,
    AIDL4: "00004000ffffffff54535953" + INTERFACE_BYTES,
}
SYSTEM_WORDS = {AIDL: "", AIDL2: "", AIDL3: "0c000000", AIDL4: "0100000c"}
NULL_WORDS = {AIDL: "", AIDL2: "", AIDL3: "00000000", AIDL4: "01000000"}


def writing(wire: Wire) -> AndroidParcel:
    return AndroidParcel(MessageSequence(), wire)


def reading(wire: Wire, data: str | bytes, objects: dict[int, Any] | None = None) -> AndroidParcel:
    body = bytes.fromhex(data) if isinstance(data, str) else data
    return AndroidParcel(MessageSequence._received(body, objects), wire)


def written(parcel: AndroidParcel) -> str:
    return bytes(parcel.sequence).hex()


# --- the header of a request ----------------------------------------------------------------------


@every_wire
def test_golden_header(wire: Wire) -> None:
    parcel = writing(wire)
    parcel.write_interface_token(INTERFACE)
    assert written(parcel) == HEADERS[wire]
    expected = RequestHeader(INTERFACE, STRICT_MODE_POLICY, NO_WORK_SOURCE, SYSTEM_TAG if wire.tag else 0)
    assert reading(wire, HEADERS[wire]).read_interface_token() == expected


def test_a_header_of_the_vendors_side_with_a_work_source() -> None:
    parcel = writing(AIDL3)
    parcel.write_interface_token("a", policy=0x80000000, work_source=1000, tag=VENDOR_TAG)
    assert written(parcel) == "00000080" + "e8030000" + "52444e56" + "0100000061000000"
    assert parcel.read_interface_token() == ("a", 0x80000000, 1000, VENDOR_TAG)


@every_wire
def test_the_layout_of_a_header_is_told_without_reading(wire: Wire) -> None:
    sequence = reading(wire, HEADERS[wire]).sequence
    assert layout_of(sequence, INTERFACE) is (AIDL3 if wire is AIDL4 else wire)
    assert sequence.get_read_position() == 0
    assert layout_of(sequence, "android.os.IServiceManages") is None


def test_openharmonys_token_is_no_header_for_another_interface() -> None:
    sequence = MessageSequence()
    sequence.write_interface_token("OHOS.ISystemAbilityManager")
    assert layout_of(sequence, INTERFACE) is None


def test_a_header_without_tag_is_refused_and_nothing_read() -> None:
    parcel = reading(AIDL3, HEADERS[AIDL2])
    with pytest.raises(ParcelReadError, match="position 0: 0x1a stands where 'SYST' or 'VNDR' should"):
        parcel.read_interface_token()
    assert parcel.sequence.get_read_position() == 0


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"policy": -1}, ParamValueError),
        ({"policy": 2**32}, ParamValueError),
        ({"policy": True}, ParamTypeError),
        ({"work_source": 2**31}, ParamValueError),
        ({"work_source": "1000"}, ParamTypeError),
        ({"tag": 0x5245434F}, ParamValueError),
    ],
)
def test_what_no_header_can_hold_is_refused(values: dict[str, Any], error: type[IpcError]) -> None:
    parcel = writing(AIDL3)
    with pytest.raises(error):
        parcel.write_interface_token("a", **values)
    with pytest.raises(ParamTypeError, match="write_interface_token takes a str"):
        parcel.write_interface_token(b"a")  # type: ignore[arg-type]
    assert written(parcel) == ""


# --- objects --------------------------------------------------------------------------------------


@every_wire
def test_golden_object(wire: Wire) -> None:
    stub, parcel = RemoteObject("tests.Stub"), writing(wire)
    parcel.write_binder(stub)
    assert written(parcel) == STUB_RECORD + SYSTEM_WORDS[wire]
    assert parcel.sequence._objects == {0: (KIND_REMOTE, stub)}
    assert parcel.read_binder() == (stub, Stability.SYSTEM if wire.stability else Stability.UNDECLARED)
    assert parcel.sequence.get_readable_bytes() == 0


@every_wire
def test_golden_null_object(wire: Wire) -> None:
    parcel = writing(wire)
    parcel.write_binder(None, Stability.VINTF)
    assert written(parcel) == NULL_RECORD + NULL_WORDS[wire]
    assert parcel.sequence._objects is None, "no driver may translate it"
    assert parcel.read_binder() == (None, Stability.UNDECLARED)


def test_a_null_object_with_the_flags_of_older_androids() -> None:
    assert reading(AIDL, "852a6273" + "7f010000" + "00" * 16).read_binder().remote is None


@pytest.mark.parametrize("wire", [AIDL3, AIDL4], ids=["aidl3", "aidl4"])
@pytest.mark.parametrize("level", Stability)
def test_every_stability_round_trips(wire: Wire, level: Stability) -> None:
    stub, parcel = RemoteObject("tests.Stub"), writing(wire)
    parcel.write_binder(stub, level)
    assert parcel.read_binder() == (stub, level)


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        pytest.param(AIDL3, NULL_RECORD + "0c000000", id="null with a stability"),
        pytest.param(AIDL3, NULL_RECORD + "0100000c", id="a word of aidl4"),
        pytest.param(AIDL4, NULL_RECORD + "0c000000", id="a word of aidl3"),
        pytest.param(AIDL4, NULL_RECORD + "01000100", id="a reserved byte"),
        pytest.param(AIDL3, NULL_RECORD, id="no word"),
        pytest.param(AIDL, "852a6873" + "00" * 20, id="a handle"),
        pytest.param(AIDL, "852a6273" + "00" * 4 + "01" + "00" * 15, id="an address"),
        pytest.param(AIDL, "852a6273" + "00" * 12 + "01" + "00" * 7, id="a cookie"),
        pytest.param(AIDL, NULL_RECORD[:-2], id="too short"),
    ],
)
def test_what_is_no_object_is_refused_and_nothing_read(wire: Wire, data: str) -> None:
    parcel = reading(wire, data)
    with pytest.raises(ParcelReadError):
        parcel.read_binder()
    assert parcel.sequence.get_read_position() == 0


def test_a_descriptor_is_no_object_not_even_a_null_one() -> None:
    with open("/dev/null") as null, OwnedFd(null.fileno()) as owner:
        parcel = reading(AIDL, NULL_RECORD, {0: (KIND_FD, owner)})
        with pytest.raises(ParcelReadError, match="there is none, and no null one"):
            parcel.read_binder()
        owner.detach()


def test_an_object_that_cannot_be_written_leaves_nothing() -> None:
    parcel = writing(AIDL3)
    with pytest.raises(InvalidObjectError):
        parcel.write_binder("object")  # type: ignore[arg-type]
    with pytest.raises(ParamValueError, match="UNDECLARED, VENDOR, SYSTEM, VINTF"):
        parcel.write_binder(RemoteObject("tests.Stub"), 5)  # type: ignore[arg-type]
    parcel.sequence.set_capacity(204_800)
    parcel.sequence.set_size(204_800 - 24)
    with pytest.raises(TooBigError):
        parcel.write_binder(RemoteObject("tests.Stub"))  # the object would fit, its stability would not
    with pytest.raises(TooBigError):
        parcel.write_string8("a string of 23 letters.")
    assert len(parcel.sequence) == 204_800 - 24
    assert parcel.sequence._objects is None


# --- strings --------------------------------------------------------------------------------------


@every_wire
def test_golden_strings(wire: Wire) -> None:
    parcel = writing(wire)
    parcel.write_string16("ab")
    parcel.write_string16(None)
    parcel.write_string16("")
    parcel.write_string8("abc")
    parcel.write_string8("grün")
    parcel.write_string8(None)
    parcel.write_string8("")
    string16s = "02000000" + "61006200" + "00000000" + "ffffffff" + "00000000" + "00000000"
    string8s = "03000000" + "61626300" + "05000000" + "6772c3bc6e000000" + "ffffffff" + "00000000"
    tail = "" if wire.short_empty_string8 else "00000000"
    assert written(parcel) == string16s + string8s + tail
    assert [parcel.read_string16() for _ in range(3)] == ["ab", None, ""]
    assert [parcel.read_string8() for _ in range(4)] == ["abc", "grün", None, ""]
    assert parcel.sequence.get_readable_bytes() == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="nothing"),
        pytest.param("feffffff", id="a negative length"),
        pytest.param("ffffff7f", id="a huge length"),
        pytest.param("0300000061626364", id="no NUL"),
        pytest.param("02000000c3280000", id="no UTF-8"),
        pytest.param("0400000061626364", id="no room for the NUL"),
    ],
)
def test_what_is_no_string8_is_refused_and_nothing_read(data: str) -> None:
    parcel = reading(AIDL3, data)
    with pytest.raises(ParcelReadError, match=r"cannot read (a string8|an int)"):
        parcel.read_string8()
    assert parcel.sequence.get_read_position() == 0


def test_what_is_no_text_is_not_written() -> None:
    parcel = writing(AIDL3)
    with pytest.raises(ParamValueError, match="write it as string16"):
        parcel.write_string8("\ud800")
    for write in (parcel.write_string8, parcel.write_string16):
        with pytest.raises(ParamTypeError, match="takes a str"):
            write(7)  # type: ignore[arg-type]
    assert written(parcel) == ""
    with pytest.raises(ParcelWriteError, match="received"):
        reading(AIDL3, "").write_string16("a")


# --- exceptions -----------------------------------------------------------------------------------


def test_golden_exceptions() -> None:
    parcel = writing(AIDL3)
    parcel.write_no_exception()
    parcel.write_exception(EX_ILLEGAL_ARGUMENT, "no")
    assert written(parcel) == "00000000" + "fdffffff" + "02000000" + "6e006f00" + "00000000" + "00000000"
    parcel.read_exception()
    with pytest.raises(RemoteError) as caught:
        parcel.read_exception()
    assert (caught.value.code, caught.value.text) == (EX_ILLEGAL_ARGUMENT, "no")
    assert parcel.sequence.get_readable_bytes() == 0


def test_a_services_own_exception_behind_a_header_and_with_a_stack() -> None:
    header = "81ffffff" + "0c000000" + "00" * 8
    parcel = reading(AIDL3, header + "f8ffffff" + "ffffffff" + "04000000" + "12345678" + "2a000000" + "07000000")
    with pytest.raises(RemoteError, match="answered with exception -8") as caught:
        parcel.read_exception()
    assert caught.value.code == 42
    assert parcel.sequence.read_int() == 7


def test_results_behind_a_header() -> None:
    parcel = reading(AIDL3, "80ffffff" + "08000000" + "00000000" + "07000000")
    parcel.read_exception()
    assert parcel.sequence.read_int() == 7


@pytest.mark.parametrize("data", ["80ffffff00000000", "80ffffff14000000", "81ffffff04000000", "fdffffffffffffff", "ff"])
def test_what_is_no_exception_is_refused_and_nothing_read(data: str) -> None:
    parcel = reading(AIDL3, data)
    with pytest.raises(ParcelReadError):
        parcel.read_exception()
    assert parcel.sequence.get_read_position() == 0


@pytest.mark.parametrize("code", [0, 1, EX_SERVICE_SPECIFIC, -127, -128, -129])
def test_only_exceptions_that_are_a_text_are_written(code: int) -> None:
    parcel = writing(AIDL3)
    with pytest.raises(ParamValueError, match="no exception that consists of a text"):
        parcel.write_exception(code, "text")
    assert written(parcel) == ""


# --- hostile bytes --------------------------------------------------------------------------------

READS: list[Callable[[AndroidParcel], Any]] = [
    AndroidParcel.read_interface_token,
    AndroidParcel.read_binder,
    AndroidParcel.read_string16,
    AndroidParcel.read_string8,
    AndroidParcel.read_exception,
]
words = (
    st.sampled_from(
        [0, 1, 2, 3, 12, 26, 63, 2**31, 2**32 - 128, 2**32 - 127, 2**32 - 8, 2**32 - 1, SYSTEM_TAG, VENDOR_TAG]
    )
    | st.sampled_from([0x73622A85, 0x73682A85, 0x0C000001, 0x61006100])
    | st.integers(0, 2**32 - 1)
)
bodies = st.lists(words, max_size=30).map(
    lambda numbers: b"".join(number.to_bytes(4, "little") for number in numbers)
) | st.binary(max_size=100)


@given(st.sampled_from(WIRES), bodies, st.lists(st.integers(0, 3), max_size=2), st.lists(st.sampled_from(READS)))
def test_any_bytes_any_reads(
    wire: Wire, body: bytes, gaps: list[int], reads: list[Callable[[AndroidParcel], Any]]
) -> None:
    objects: dict[int, tuple[int, object]] = {}
    offset = 0
    for gap in gaps:
        offset += 4 * gap
        if offset + 24 <= len(body):
            objects[offset] = (KIND_REMOTE, RemoteObject("tests.Stub"))
            offset += 24
    parcel = reading(wire, body, objects)
    sequence = parcel.sequence
    for read in reads:
        before = sequence.get_read_position()
        layout_of(sequence, INTERFACE)
        try:
            read(parcel)
        except RemoteError:
            continue  # it was read, and was an exception
        except ParcelReadError:
            assert sequence.get_read_position() == before
        assert before <= sequence.get_read_position() <= len(body)


texts16 = st.none() | st.text(max_size=20)
texts8 = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.sampled_from(WIRES), st.lists(texts16), st.lists(texts8))
def test_strings_round_trip(wire: Wire, string16s: list[str | None], string8s: list[str | None]) -> None:
    parcel = writing(wire)
    for text in string16s:
        parcel.write_string16(text)
    for text in string8s:
        parcel.write_string8(text)
    assert len(parcel.sequence) % 4 == 0
    assert [parcel.read_string16() for _ in string16s] == string16s
    assert [parcel.read_string8() for _ in string8s] == string8s


@given(
    st.sampled_from(WIRES),
    st.text(max_size=30),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([SYSTEM_TAG, VENDOR_TAG]),
)
def test_headers_round_trip_and_are_told_apart(
    wire: Wire, interface: str, policy: int, work_source: int, tag: int
) -> None:
    parcel = writing(wire)
    parcel.write_interface_token(interface, policy=policy, work_source=work_source, tag=tag)
    layout = layout_of(parcel.sequence, interface)
    assert layout is not None
    if len(interface) > 2:  # shorter ones could be numbers as well
        assert layout.interface_offset == wire.interface_offset
    read = parcel.read_interface_token()
    assert read.interface == interface
    assert read.policy == policy
    assert read.work_source == (work_source if wire.work_source else NO_WORK_SOURCE)
    assert read.tag == (tag if wire.tag else 0)
