"""service.py: the ability manager with real processes: every fault, every death, nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import process, samgr
from binderkit.ability import (
    ABILITY_MANAGER_ID,
    AbilityError,
    AbilityManagerService,
    BundleDirectory,
    ElementName,
    IAbilityManager,
    Want,
    connect,
    connect_service_extension_ability,
    disconnect_service_extension_ability,
    dump_service_extension_ability,
    list_service_extension_abilities,
    start_service_extension_ability,
    stop_service_extension_ability,
)
from binderkit.ability.client import ability_manager
from binderkit.ability.contracts import IAbilityConnection, IAbilityHost, IAbilityScheduler, Refusal
from binderkit.ability.model import Connected
from binderkit.errors import DeadObjectError
from binderkit.interface import proxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.tokens import TokenRegistry
from tests.ability.clients import BUNDLE, Told, connected, failure, journal, want
from tests.ability.contracts import IRecorder
from tests.ability.device import WAIT, wait_for_end, wait_until_no_host_runs

Device = subprocess.Popen[bytes]


def nothing_is_left(directory: Path) -> bool:
    """Wait until no ability lives and no process of one runs; True, so that it can be asserted."""
    wait_until_no_host_runs(directory)
    until = time.monotonic() + WAIT
    while reports := list_service_extension_abilities():  # the manager learns of the end a moment after the kernel
        assert time.monotonic() < until, reports
    return True


# --- what must work ---------------------------------------------------------------------------------------


def test_a_service_runs_while_somebody_is_connected(directory: Path) -> None:
    number, recorder, told = connected("Recorder")
    assert recorder.events() == ["create", "connect"]
    (report,) = list_service_extension_abilities()
    assert (report.state, report.pid, report.connections, report.start_id) == ("ACTIVE", recorder.pid(), 1, 0)

    disconnect_service_extension_ability(number)

    assert told.next()[0] == "disconnect"
    assert nothing_is_left(directory)
    assert journal(directory) == [f"Recorder {word}" for word in ("create", "connect", "disconnect", "destroy")]


def test_clients_of_several_processes_share_one_object(directory: Path) -> None:
    with connect(want("Recorder"), IRecorder) as mine, connect(want("Neighbour"), IRecorder) as neighbour:
        assert neighbour.pid() == mine.pid()
        assert neighbour.connect(BUNDLE, "Recorder") == str(mine.pid())
        assert mine.events() == ["create", "connect"]
        with bk.spawn("tests.ability.other:Other") as child:
            assert child.pid != mine.pid()
            assert _ask(child, "Recorder") == str(mine.pid())
    assert nothing_is_left(directory)


def _ask(child: bk.Child, ability: str) -> str:
    return proxy(IRecorder, child.root).connect(BUNDLE, ability)


def test_a_started_service_lives_until_it_is_stopped_and_disconnected(directory: Path) -> None:
    start_service_extension_ability(want("Recorder"))
    start_service_extension_ability(want("Recorder"))
    with connect(want("Recorder"), IRecorder) as recorder:
        assert recorder.events() == ["create", "request 1", "request 2", "connect"]
        assert dump_service_extension_ability(want("Recorder"), ["a"]) == ["a", *recorder.events()]
        stop_service_extension_ability(want("Recorder"))
        assert recorder.events()[-1] == "connect"
    assert nothing_is_left(directory)
    assert journal(directory)[-2:] == ["Recorder disconnect", "Recorder destroy"]


def test_an_ability_can_end_itself(directory: Path) -> None:
    _, recorder, told = connected("Recorder")

    recorder.terminate()

    assert told.next()[0] == "disconnect"
    assert nothing_is_left(directory)
    assert journal(directory)[-1] == "Recorder destroy"


# --- deaths -----------------------------------------------------------------------------------------------


def test_every_client_learns_that_the_process_was_killed_and_the_next_connect_starts_it_anew(directory: Path) -> None:
    _, recorder, told = connected("Recorder")
    _, _, neighbours = connected("Neighbour")
    before = recorder.pid()

    os.kill(before, signal.SIGKILL)

    assert told.next()[0] == neighbours.next()[0] == "disconnect"
    with connect(want("Recorder"), IRecorder) as again:
        assert again.pid() != before
        assert again.events() == ["create", "connect"]


def test_a_service_ends_when_the_process_of_its_only_client_is_killed(directory: Path) -> None:
    with bk.spawn("tests.ability.other:Other") as child:
        assert proxy(IRecorder, child.root).events() == ["connected"]
        assert [report.connections for report in list_service_extension_abilities()] == [1]
        child.kill()
    assert nothing_is_left(directory)
    assert journal(directory)[-2:] == ["Recorder disconnect", "Recorder destroy"]


def test_clients_and_hosts_learn_that_the_ability_manager_was_killed(device: Device, installed: Path) -> None:
    _, recorder, told = connected("Recorder")
    pid = recorder.pid()

    device.kill()
    device.wait(WAIT)

    assert told.next()[0] == "disconnect"
    wait_for_end(pid)
    assert journal(installed)[-1] == "Recorder destroy"
    with pytest.raises(AbilityError, match=r"the ability manager \(system ability 180\) of this device is not there"):
        connect_service_extension_ability(want("Recorder"), Told())


class Callback(IAbilityConnection):
    """A connection that a client makes by hand."""

    def connect_done(self, element: object, remote: IRemoteObject) -> None: ...
    def connect_failed(self, element: object, code: int, text: str) -> None: ...
    def disconnect_done(self, element: object, result: int, text: str) -> None: ...


class GoneObject(Callback):
    """A callback that cannot be sent the object, because that died on the way."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connect_done(self, element: object, remote: IRemoteObject) -> None:
        raise DeadObjectError("its process ended")

    def connect_failed(self, element: object, code: int, text: str) -> None:
        self.told.append(text)


def test_a_client_whose_object_died_on_the_way_is_told(tmp_path: Path) -> None:
    tokens = TokenRegistry(tmp_path)
    supervisor = Supervisor(tmp_path, on_exit=lambda *_: None, tokens=tokens)
    manager = AbilityManagerService(supervisor, BundleDirectory(tmp_path), tokens)
    callback = GoneObject()

    manager._tell(Connected(callback, ElementName("a.b", "S"), callback))

    assert callback.told == ["a.b/S ended before its object arrived: its process ended [code -32]"]
    manager.close()
    supervisor.close(leave=False)


@pytest.mark.slow
def test_no_client_hangs_while_the_process_is_killed_again_and_again(directory: Path) -> None:
    kills, over, outcomes = 25, threading.Event(), Counter[str]()

    def connect_again_and_again() -> None:
        while not over.is_set():
            try:
                with connect(want("Recorder"), IRecorder) as recorder:
                    recorder.events()
                outcomes["connected"] += 1
            except bk.IpcError as error:
                outcomes[type(error).__name__] += 1

    threads = [threading.Thread(target=connect_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            with connect(want("Neighbour"), IRecorder) as neighbour:
                pid = neighbour.pid()
                os.kill(pid, signal.SIGKILL)
                wait_for_end(pid)
    finally:
        over.set()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), "a client hangs"
    assert outcomes["connected"] > 0
    assert nothing_is_left(directory)


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (Want("no.such", "Recorder"), 16000001, "no bundle 'no.such' is installed in "),
        (want("NoSuch"), 16000001, "bundle test.bundle has no ability 'NoSuch'; it has Recorder, Neighbour, Hidden"),
        (Want(BUNDLE, "Recorder", module_name="x"), 16000001, "bundle test.bundle has module 'entry', not 'x'"),
        (want("Window"), 16000002, "test.bundle/Window is of type 'page'; only abilities of type 'service'"),
        (want("Hidden"), 16000004, "test.bundle/Hidden is not exported, so process "),
        (want("Guarded"), 201, "lacks test.permission.ASKED, needed for test.bundle/Guarded"),
    ],
)
def test_what_may_not_be_connected_or_started_is_refused_with_code_and_names(
    directory: Path, asked: Want, code: int, text: str
) -> None:
    told = Told()
    connect_service_extension_ability(asked, told)
    kind, failed = told.next()
    assert (kind, failed) == ("failed", code)
    assert text in failed.text
    with pytest.raises(AbilityError, match=re.escape(text)) as raised:
        start_service_extension_ability(asked)
    assert raised.value.code == code
    with pytest.raises(AbilityError, match=re.escape(text)):
        stop_service_extension_ability(asked)
    assert list_service_extension_abilities() == []


def test_the_ability_manager_knows_its_own_device_only(directory: Path) -> None:
    manager, elsewhere = ability_manager(), Want(BUNDLE, "Recorder", device_id="d")
    asking: tuple[Callable[[], object], ...] = (
        lambda: manager.connect_ability(elsewhere, Callback()),
        lambda: manager.start_ability(elsewhere),
        lambda: manager.stop_ability(elsewhere),
    )
    for ask in asking:
        with pytest.raises(Refusal, match="device 'd' is not known here; leave device_id empty") as refused:
            ask()
        assert refused.value.code == 16000001


def test_no_process_connects_on_behalf_of_a_device_unless_it_is_the_scheduler(directory: Path) -> None:
    with pytest.raises(Refusal, match=rf"process {os.getpid()} may not connect on behalf of another device") as refused:
        ability_manager().connect_ability_of_device("f" * 64, want("Recorder"), Callback())
    assert refused.value.code == 201
    assert list_service_extension_abilities() == []


def test_the_same_application_may_use_what_is_not_exported_or_guarded(directory: Path) -> None:
    with connect(want("Recorder"), IRecorder) as recorder:
        assert recorder.connect(BUNDLE, "Hidden") == str(recorder.pid())
        assert recorder.connect(BUNDLE, "Guarded") == str(recorder.pid())
    assert nothing_is_left(directory)


FAULTS = [
    ("Raises", {"where": "create"}, r"test\.bundle/Raises could not be created: ValueError: no luck in on_create"),
    ("Raises", {}, r"on_connect of test\.bundle/Raises failed: ValueError: no luck in on_connect"),
    ("Wrong", {}, r"on_connect of test\.bundle/Wrong failed: ServiceError: on_connect returned int; expected was"),
    ("Missing", {}, r"test\.bundle/Missing could not be created: ServiceError: .*NoSuchClass"),
    ("NotAnAbility", {}, r"made NotAnAbility; a ServiceExtensionAbility was expected"),
    ("Crashes", {}, r"process test\.bundle:crashes \(pid \d+\) ended with exit code 7; its output is in .*\.log"),
]


def test_faulty_abilities_are_told_their_neighbours_live_and_nothing_is_left(directory: Path) -> None:
    with connect(want("Recorder"), IRecorder) as neighbour:
        for ability, parameters, text in FAULTS:
            code = failure(ability, **parameters)
            assert code == 16000050
            assert re.search(text, code.text), code.text
        assert neighbour.events() == ["create", "connect"]
    assert nothing_is_left(directory)


def test_an_ability_that_returns_none_disconnects_who_waits(directory: Path) -> None:
    told = Told()
    connect_service_extension_ability(want("Nothing"), told)
    assert told.next()[0] == "disconnect"
    with (
        pytest.raises(AbilityError, match=r"on_connect of test\.bundle/Nothing returned None"),
        connect(want("Nothing")),
    ):
        pytest.fail("connected to nothing")
    assert nothing_is_left(directory)
    assert told.nothing()


def test_starting_what_crashes_tells_the_starter(directory: Path) -> None:
    with pytest.raises(AbilityError, match="ended with exit code 7"):
        start_service_extension_ability(want("Crashes"))
    assert nothing_is_left(directory)


@pytest.mark.slow
def test_starting_what_hangs_tells_the_starter(hasty: Device, installed: Path) -> None:
    with pytest.raises(AbilityError, match=r"on_create of test\.bundle/HangsAtCreate did not return"):
        start_service_extension_ability(want("HangsAtCreate"))
    assert nothing_is_left(installed)


@pytest.mark.slow
@pytest.mark.parametrize(("ability", "step"), [("HangsAtCreate", "on_create"), ("HangsAtConnect", "on_connect")])
def test_an_ability_that_hangs_is_told_and_killed(hasty: Device, installed: Path, ability: str, step: str) -> None:
    code = failure(ability)
    assert (code, code.text) == (
        16000050,
        f"{step} of test.bundle/{ability} did not return within 4 s; the ability is ended",
    )
    assert nothing_is_left(installed)


@pytest.mark.slow
def test_a_hung_on_request_ends_the_ability_and_its_clients_learn_it(hasty: Device, installed: Path) -> None:
    told = Told()
    connect_service_extension_ability(want("HangsAtRequest"), told)
    assert told.next()[0] == "connect"
    start_service_extension_ability(want("HangsAtRequest"))
    assert told.next()[0] == "disconnect"
    assert nothing_is_left(installed)


def test_an_entry_whose_file_is_gone_is_told(device: Device, installed: Path) -> None:
    (installed / "bundles" / BUNDLE / "recorder.py").unlink()
    assert "could not be created: ServiceError: the entry" in failure("Recorder").text
    assert nothing_is_left(installed)


def test_a_bundle_with_a_mistake_is_named(device: Device, installed: Path) -> None:
    (installed / "bundles" / BUNDLE / "bundle.toml").write_text('name = "test.bundle"\nability = 5\n')
    text = failure("Recorder").text
    assert "no bundle 'test.bundle' is installed" in text
    assert "bundles with mistakes there: " in text and "bundle.toml" in text


def test_dumping_what_does_not_run_is_refused(directory: Path) -> None:
    with pytest.raises(AbilityError, match=r"test\.bundle/Recorder does not run"):
        dump_service_extension_ability(want("Recorder"))


# --- hostile processes ------------------------------------------------------------------------------------


class Impostor(IAbilityHost):
    """Wants to be a host."""

    def load(self, ability: int, name: str) -> None: ...


class FalseScheduler(IAbilityScheduler):
    """Wants to be somebody's ability."""

    def create(self, number: int, want: Want) -> None: ...
    def connect(self, number: int, want: Want) -> None: ...
    def disconnect(self, number: int, want: Want) -> None: ...
    def command(self, number: int, want: Want, start_id: int) -> None: ...
    def destroy(self, number: int, want: Want) -> None: ...
    def dump(self, arguments: list[str]) -> list[str]:
        return []


def refusal(attempt: Callable[[int], None], ability: int) -> str:
    """Return the text of the refusal, "" when there was none."""
    try:
        attempt(ability)
    except Refusal as refused:
        return refused.text
    return ""


def test_a_process_that_the_manager_did_not_start_cannot_act_as_a_host(directory: Path) -> None:
    manager = proxy(IAbilityManager, samgr.get_system_ability(ABILITY_MANAGER_ID))
    with connect(want("Recorder"), IRecorder) as recorder:
        with pytest.raises(Refusal, match=f"process {os.getpid()} was not started by the ability manager"):
            manager.attach_host(Impostor())
        attempts: list[Callable[[int], None]] = [
            lambda ability: manager.ability_loaded(ability, FalseScheduler()),
            lambda ability: manager.step_done(ability, 1, None, "lies"),
            manager.terminate_ability,
        ]
        for attempt in attempts:
            refused = [text for ability in range(1, 100) if (text := refusal(attempt, ability))]
            # One of the numbers is the Recorder's; what is gone already is of no interest to anybody.
            assert len(refused) == 1
            assert refused[0].endswith(f"is in process {recorder.pid()}, not in {os.getpid()}")
        assert recorder.events() == ["create", "connect"]


def test_nobody_else_disconnects(directory: Path) -> None:
    manager = proxy(IAbilityManager, samgr.get_system_ability(ABILITY_MANAGER_ID))
    with pytest.raises(Refusal, match="CONNECTION_NOT_EXIST"):
        manager.disconnect_ability(Callback())


def test_a_callback_is_used_for_one_connection(directory: Path) -> None:
    manager = proxy(IAbilityManager, samgr.get_system_ability(ABILITY_MANAGER_ID))
    callback = Callback()
    manager.connect_ability(want("Recorder"), callback)
    with pytest.raises(Refusal, match="make a new one for each connection"):
        manager.connect_ability(want("Recorder"), callback)
    process.shutdown()
    assert nothing_is_left(directory)
