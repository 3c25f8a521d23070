"""samgr/teller.py: listeners are told in order, on other threads, and one that fails hears no more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import pytest

import binderkit as bk
from binderkit.errors import ServiceError
from binderkit.samgr import SystemAbilityListener, codes
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.subscriptions import MAX_PENDING, PROCESSES, Event
from binderkit.samgr.teller import Teller, unwatch, watch

INFO = AbilityInfo(5, "five", 1, 0)


class Recorder(SystemAbilityListener):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.events: list[int] = []
        self.fails = fails

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(ability_id)
        if self.fails:
            raise OSError("full")


class Scene:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tasks: deque[Callable[[], None]] = deque()
        self.teller = Teller(self.lock, self.tasks.append)

    def post(self, info: AbilityInfo = INFO) -> None:
        with self.lock:
            self.teller.post(info, codes.ON_ADD_SYSTEM_ABILITY)

    def run(self) -> None:
        self.teller.tell()
        while self.tasks:
            self.tasks.popleft()()


def test_one_that_comes_late_is_told_at_once_but_only_the_first_time() -> None:
    scene, listener = Scene(), Recorder()
    for _ in range(2):
        scene.teller.subscribe(7, 5, listener, lambda: Event(listener, codes.ON_ADD_SYSTEM_ABILITY, 5))
    assert listener.events == []
    scene.run()
    assert listener.events == [5]
    assert scene.teller.unsubscribe(7, 5, listener) and not scene.teller.unsubscribe(7, 5, listener)
    scene.post()
    scene.run()
    assert listener.events == [5]


def test_a_listener_that_fails_hears_no_more_and_holds_up_nobody() -> None:
    scene, failing, healthy = Scene(), Recorder(fails=True), Recorder()
    for listener in (failing, healthy):
        scene.teller.subscribe(7, "five", listener, lambda: None)
    for _ in range(3):
        scene.post()
    scene.run()
    assert (failing.events, healthy.events) == ([5], [5, 5, 5])
    assert len(scene.teller.subscriptions) == 1


def test_one_that_does_not_read_is_taken_out() -> None:
    scene, listener = Scene(), Recorder()
    scene.teller.subscribe(7, 5, listener, lambda: None)
    for _ in range(MAX_PENDING + 1):
        scene.post()
    assert len(scene.teller.subscriptions) == 0
    scene.run()
    assert listener.events == []


def test_a_message_of_another_kind_is_written_by_its_event() -> None:
    scene = Scene()

    heard: list[tuple[int, str]] = []

    class Raw(bk.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> bool:
            heard.append((code, data.read_string()))
            return True

    raw = Raw("tests.Raw")
    scene.teller.subscribe(7, PROCESSES, raw, lambda: Event(raw, 9, 0, lambda data: data.write_string("hello")))
    scene.run()
    assert heard == [(9, "hello")]
    assert scene.teller.subscriptions.of_processes() == {raw: 7}


def test_a_refused_subscription_leaves_nothing() -> None:
    scene, listener = Scene(), Recorder()
    for number in range(256):
        scene.teller.subscribe(7, number + 1, listener, lambda: None)
    with pytest.raises(ServiceError) as caught:
        scene.teller.subscribe(7, 1000, listener, lambda: None)
    assert caught.value.code == codes.SUBSCRIBE_LIMIT
    scene.teller.drop(7, listener)
    assert len(scene.teller.subscriptions) == 0


def test_the_death_of_a_process_is_told_to_who_watches(runtime_dir: object) -> None:
    told = threading.Event()
    try:
        with bk.spawn("tests.samgr.processes:Adder") as child:
            taken_back = watch(child.root, lambda _: pytest.fail("taken back"))
            unwatch(child.root, taken_back)
            assert watch(child.root, lambda _: told.set()) is not None
            child.kill()
            assert told.wait(20)
            with pytest.raises(ServiceError, match="dead already"):
                watch(child.root, lambda _: None)
    finally:
        bk.process.shutdown()
    assert watch(bk.RemoteObject("tests.Own"), lambda _: None) is None
