"""samgr/manager_client.py: what is refused before anything is sent, and how SAMgr's results become errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import (
    CallTimeoutError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.samgr import codes
from binderkit.samgr.manager_client import ATTEMPTS
from tests.samgr.processes import Adder


class Answering(bk.RemoteObject):
    """Answers everything with one result, or counts as a mistake that it was asked at all."""

    def __init__(self, result: int | None = None) -> None:
        super().__init__(codes.DESCRIPTOR)
        self._result = result

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        assert self._result is not None, "nothing should have been sent"
        reply.write_int(self._result)
        reply.write_string("the text")
        return True


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (codes.LOAD_SA_TIMEOUT, CallTimeoutError),
        (codes.ABILITY_NOT_FOUND, ServiceNotFoundError),
        (codes.START_FAILED, ServiceError),
        (codes.INVALID_CALLING_PROCESS, ServiceError),
    ],
)
def test_a_result_becomes_an_error_with_its_code_and_text(result: int, kind: type[IpcError]) -> None:
    client = samgr.SystemAbilityManagerClient(Answering(result))
    calls: list[Callable[[], object]] = [
        lambda: client.load_system_ability(5),
        lambda: client.unload_system_ability(5),
        lambda: client.add_system_process("p", Adder()),
        client.list_system_processes,
    ]
    for call in calls:
        with pytest.raises(kind, match="the text") as caught:
            call()
        assert caught.value.code == result


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    client = samgr.SystemAbilityManagerClient(Answering())
    values: list[Callable[[], object]] = [
        lambda: client.load_system_ability(0),
        lambda: client.load_system_ability(5, timeout=float("nan")),
        lambda: client.load_system_ability(5, samgr.SystemAbilityLoadCallback(), timeout=12.1),
        lambda: client.unload_system_ability("4 7"),
        lambda: client.add_system_process("4 7", Adder()),
        lambda: client.unload_processes(["fine", "not fine"]),
        lambda: client.get_system_process_info(-1),
    ]
    for call in values:
        with pytest.raises(ParamValueError):
            call()
    types: list[Callable[[], object]] = [
        lambda: client.load_system_ability(5, timeout=True),
        lambda: client.load_system_ability(None),  # type: ignore[call-overload]
        lambda: client.load_system_ability(5, Adder()),  # type: ignore[call-overload]
        lambda: client.subscribe_system_process(Adder()),  # type: ignore[arg-type]
        lambda: client.unsubscribe_system_process(Adder()),  # type: ignore[arg-type]
        lambda: client.add_system_process("p", 7),  # type: ignore[arg-type]
    ]
    for call in types:
        with pytest.raises(ParamTypeError):
            call()


class Dying(bk.RemoteObject):
    """A SAMgr that finds abilities whose processes end on the way, a number of times."""

    def __init__(self, deaths: int) -> None:
        super().__init__(codes.DESCRIPTOR)
        self.deaths = deaths
        self.asked = 0

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        self.asked += 1
        if self.asked <= self.deaths:
            raise bk.DeadObjectError("it is dead and cannot be passed on")
        reply.write_int(codes.OK)
        reply.write_remote_object(self)
        return True


def test_an_ability_whose_process_ends_on_the_way_is_asked_for_again() -> None:
    for deaths in (0, 1, ATTEMPTS - 1):
        manager = Dying(deaths)
        assert samgr.SystemAbilityManagerClient(manager).get_system_ability(5) is manager
        assert manager.asked == deaths + 1
    with pytest.raises(ServiceError, match="while it was being handed over"):
        samgr.SystemAbilityManagerClient(Dying(ATTEMPTS)).get_system_ability(5)


def test_what_registers_or_changes_something_is_never_sent_twice() -> None:
    manager = Dying(1)
    with pytest.raises(bk.RemoteError):
        samgr.SystemAbilityManagerClient(manager).remove_system_ability(5)
    assert manager.asked == 1
