"""What clients see of processes and of the states of abilities: records, and the listener of processes.

Owns: ProcessInfo and AbilityStatus with their bytes, and SystemProcessListener. Pure apart from the listener's calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from binderkit.errors import ParcelReadError, UnknownTransactionError
from binderkit.ipc.remote import RemoteObject
from binderkit.samgr import codes
from binderkit.samgr.reason import ReasonId
from binderkit.samgr.requests import check_token
from binderkit.samgr.states import AbilityState, ProcessChange, ProcessState

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import HandlerResult
    from binderkit.parcel import MessageSequence

_E = TypeVar("_E", AbilityState, ProcessState, ReasonId)


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process that hosts system abilities.

    Attributes:
        name: of its profile, or what it called itself. pid, uid: 0 while it does not run.
        state: see ProcessState. managed: whether SAMgr's supervisor watches it.
        abilities: ids of those of its profile; of those it registered, if it has none.
    """

    name: str
    pid: int = 0
    uid: int = 0
    state: ProcessState = ProcessState.NOT_STARTED
    managed: bool = False
    abilities: tuple[int, ...] = ()

    def write(self, sequence: MessageSequence) -> None:
        """Append the record."""
        sequence.write_string(self.name)
        for number in (self.pid, self.state, int(self.managed)):
            sequence.write_int(number)
        sequence.write_long(self.uid)
        sequence.write_int_array(self.abilities)

    @classmethod
    def read(cls, sequence: MessageSequence) -> ProcessInfo:
        """Return the record at the read position (ParcelReadError, 1900010, when none is there)."""
        name, pid = sequence.read_string(), sequence.read_int()
        state, managed = _state(ProcessState, sequence.read_int()), bool(sequence.read_int())
        uid = sequence.read_long()
        return cls(name, pid, uid, state, managed, tuple(sequence.read_int_array()))


@dataclass(frozen=True, slots=True)
class AbilityStatus:
    """A system ability, whether it runs or not.

    Attributes:
        id, name: as registered, or as its profile says. process: "" when the process that registered it has no name.
        pid: 0 when it does not run. state: see AbilityState; one without profile is LOADED.
        on_demand: whether a profile has it, so that asking for it starts it.
        reason: why it was loaded last. waiting: how many wait for it.
        distributed: whether other devices may use it. guarded: whether only some of them (``remote-access``).
    """

    id: int
    name: str = ""
    process: str = ""
    pid: int = 0
    state: AbilityState = AbilityState.LOADED
    on_demand: bool = False
    reason: ReasonId = ReasonId.INTERFACE_CALL
    waiting: int = 0
    distributed: bool = False
    guarded: bool = False

    def write(self, sequence: MessageSequence) -> None:
        """Append the record."""
        for number in (self.id, self.pid, self.state, self.reason, self.waiting):
            sequence.write_int(number)
        sequence.write_boolean(self.on_demand)
        sequence.write_boolean(self.distributed)
        sequence.write_boolean(self.guarded)
        sequence.write_string(self.name)
        sequence.write_string(self.process)

    @classmethod
    def read(cls, sequence: MessageSequence) -> AbilityStatus:
        """Return the record at the read position (ParcelReadError, 1900010, when none is there)."""
        ability, pid = sequence.read_int(), sequence.read_int()
        state, reason = _state(AbilityState, sequence.read_int()), _state(ReasonId, sequence.read_int())
        waiting, on_demand = sequence.read_int(), sequence.read_boolean()
        distributed, guarded = sequence.read_boolean(), sequence.read_boolean()
        name, process = sequence.read_string(), sequence.read_string()
        return cls(ability, name, process, pid, state, on_demand, reason, waiting, distributed, guarded)


class SystemProcessListener(RemoteObject):
    """Hears of processes that host system abilities (reference 2.2, 24). Override what you need.

    The methods run on a worker thread, one at a time, in the order in which the things happened.
    """

    def __init__(self) -> None:
        super().__init__(codes.PROCESS_LISTENER_DESCRIPTOR)

    def on_system_process_started(self, name: str, pid: int) -> None:
        """A process made itself known."""

    def on_system_process_stopped(self, name: str, pid: int) -> None:
        """A process ended, however it ended."""

    def on_system_process_activated(self, name: str, pid: int) -> None:
        """An idle process is needed again."""

    def on_system_process_idled(self, name: str, pid: int) -> None:
        """None of a process's abilities is needed."""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Call the method that ``code`` stands for.

        Raises:
            RefusedError: another interface token (303).
            UnknownTransactionError: another code (305).
        """
        check_token(data, codes.PROCESS_LISTENER_DESCRIPTOR)
        tell = {
            ProcessChange.STARTED: self.on_system_process_started,
            ProcessChange.STOPPED: self.on_system_process_stopped,
            ProcessChange.ACTIVATED: self.on_system_process_activated,
            ProcessChange.IDLED: self.on_system_process_idled,
        }.get(code)  # type: ignore[call-overload]
        if tell is None:
            raise UnknownTransactionError(f"a listener of processes does not know transaction {code}")
        tell(data.read_string(), data.read_int())
        return True


def process_message(name: str, pid: int) -> Callable[[MessageSequence], None]:
    """Return what writes a message to a SystemProcessListener."""

    def write(data: MessageSequence) -> None:
        data.write_interface_token(codes.PROCESS_LISTENER_DESCRIPTOR)
        data.write_string(name)
        data.write_int(pid)

    return write


def _state(kind: type[_E], number: int) -> _E:
    try:
        return kind(number)
    except ValueError:
        raise ParcelReadError(f"{number} is no {kind.__name__}") from None
