"""samgr/listener.py: from a request to the method."""

from __future__ import annotations

import threading

import pytest

import binderkit as bk
from binderkit.errors import UnknownTransactionError
from binderkit.samgr import SystemAbilityListener, codes


class Recorder(SystemAbilityListener):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, int, str]] = []

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(("added", ability_id, device_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(("removed", ability_id, device_id))


def tell(listener: SystemAbilityListener, code: int, token: str = codes.LISTENER_DESCRIPTOR) -> None:
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_interface_token(token)
        data.write_int(7)
        data.write_string("device")
        listener.send_request(code, data, reply)


def test_each_code_calls_its_method() -> None:
    listener = Recorder()
    tell(listener, codes.ON_ADD_SYSTEM_ABILITY)
    tell(listener, codes.ON_REMOVE_SYSTEM_ABILITY)
    assert listener.events == [("added", 7, "device"), ("removed", 7, "device")]


def test_another_token_or_code_is_refused() -> None:
    listener = Recorder()
    with pytest.raises(bk.RefusedError, match="interface token 'other'"):
        tell(listener, codes.ON_ADD_SYSTEM_ABILITY, "other")
    with pytest.raises(UnknownTransactionError):
        tell(listener, 99)
    assert listener.events == []


def test_a_listener_need_not_override_anything() -> None:
    tell(SystemAbilityListener(), codes.ON_ADD_SYSTEM_ABILITY)
    tell(SystemAbilityListener(), codes.ON_REMOVE_SYSTEM_ABILITY)


def test_after_samgrs_death_it_hears_what_changed() -> None:
    listener = Recorder()
    tell(listener, codes.ON_ADD_SYSTEM_ABILITY)
    listener.manager_lost(1)  # the test itself plays the next one
    tell(listener, codes.ON_ADD_SYSTEM_ABILITY)
    assert [event[0] for event in listener.events] == ["added", "removed", "added"]
    listener.manager_settled()
    assert len(listener.events) == 3
    listener.manager_lost(2)
    listener.manager_settled()
    assert listener.events[3:] == [("removed", 7, "")]
    listener.manager_settled()
    assert len(listener.events) == 4


def test_noting_samgrs_death_does_not_wait_for_a_listener_that_takes_its_time() -> None:
    class Slow(SystemAbilityListener):
        def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
            started.set()
            assert go_on.wait(10)

    started, go_on, listener = threading.Event(), threading.Event(), Slow()
    thread = threading.Thread(target=tell, args=(listener, codes.ON_ADD_SYSTEM_ABILITY))
    thread.start()
    try:
        assert started.wait(10)
        listener.manager_lost(1)
    finally:
        go_on.set()
        thread.join(10)
