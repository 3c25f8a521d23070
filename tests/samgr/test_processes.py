"""samgr/processes.py: records as bytes, and the listener of processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit.errors import IpcError, UnknownTransactionError
from binderkit.samgr import codes
from binderkit.samgr.processes import AbilityStatus, ProcessInfo, SystemProcessListener, process_message
from binderkit.samgr.reason import ReasonId
from binderkit.samgr.states import AbilityState, ProcessChange, ProcessState

INTS = st.integers(-(2**31), 2**31 - 1)
INFOS = st.builds(
    ProcessInfo,
    st.text(max_size=20),
    INTS,
    st.integers(0, 2**40),
    st.sampled_from(ProcessState),
    st.booleans(),
    st.lists(INTS, max_size=4).map(tuple),
)
STATUSES = st.builds(
    AbilityStatus,
    INTS,
    st.text(max_size=20),
    st.text(max_size=20),
    INTS,
    st.sampled_from(AbilityState),
    st.booleans(),
    st.sampled_from(ReasonId),
    INTS,
    st.booleans(),
)


@given(INFOS | STATUSES)
def test_a_record_arrives_as_it_was(record: ProcessInfo | AbilityStatus) -> None:
    data = bk.MessageSequence()
    record.write(data)
    assert type(record).read(bk.MessageSequence.from_bytes(bytes(data))) == record


@given(st.binary(max_size=80), st.sampled_from([ProcessInfo, AbilityStatus]))
def test_any_bytes_are_a_record_or_our_error(raw: bytes, kind: type[ProcessInfo] | type[AbilityStatus]) -> None:
    try:
        found = kind.read(bk.MessageSequence.from_bytes(raw))
    except IpcError:
        return
    assert isinstance(found, kind)


class Recorder(SystemProcessListener):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str, int]] = []

    def on_system_process_started(self, name: str, pid: int) -> None:
        self.events.append(("started", name, pid))

    def on_system_process_stopped(self, name: str, pid: int) -> None:
        self.events.append(("stopped", name, pid))

    def on_system_process_activated(self, name: str, pid: int) -> None:
        self.events.append(("activated", name, pid))

    def on_system_process_idled(self, name: str, pid: int) -> None:
        self.events.append(("idled", name, pid))


def test_a_listener_hears_each_kind_and_one_that_overrides_nothing_hears_in_peace() -> None:
    for listener in (Recorder(), SystemProcessListener()):
        for change in ProcessChange:
            data = bk.MessageSequence()
            process_message("p", 7)(data)
            listener.send_request(int(change), data, bk.MessageSequence())
        if isinstance(listener, Recorder):
            assert listener.events == [(word, "p", 7) for word in ("started", "stopped", "activated", "idled")]


def test_wrong_messages_are_refused() -> None:
    data = bk.MessageSequence()
    data.write_interface_token(codes.LISTENER_DESCRIPTOR)
    with pytest.raises(bk.RefusedError, match="interface token"):
        Recorder().send_request(1, data, bk.MessageSequence())
    data = bk.MessageSequence()
    process_message("p", 7)(data)
    with pytest.raises(UnknownTransactionError):
        Recorder().send_request(5, data, bk.MessageSequence())
