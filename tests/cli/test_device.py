"""cli/device.py: what the commands print, ask and refuse. The softbus they speak with is a made-up one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.cli import device as commands
from binderkit.cli import target
from binderkit.cli.main import main
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.samgr.remote import SOFTBUS_ID, Problem
from binderkit.softbus.contracts import (
    DeviceDescription,
    IDeviceWatcher,
    IFinder,
    IPairingWatcher,
    ISoftBus,
    NearbyDevice,
    PairingOffer,
)
from binderkit.softbus.session_contracts import ISessions

Capture = pytest.CaptureFixture[str]
Samgr = subprocess.Popen[bytes]
OWN = DeviceDescription("a" * 64, "1" * 32, "study", "linux", True, True, 0, 5)
TV = DeviceDescription("b" * 64, "2" * 32, "tv [red]", "tv", True, False, 1, 5)
OFF = DeviceDescription("c" * 64, "", "kitchen", "phone", False, False, 1, 0)
NEAR = NearbyDevice("d" * 32, "kitchen", "phone", 64, "", ["10.0.0.5"], 4711, True)


class SoftBus(ISoftBus):
    """Answers as the test sets it, and notes what it was asked."""

    def __init__(self) -> None:
        self.trusted = [TV, OFF]
        self.near = [NEAR]
        self.asked: list[tuple[object, ...]] = []
        self.gone = True
        self.problem: Problem | None = None
        self.news: list[tuple[str, DeviceDescription]] = []
        self.end: DeviceDescription | tuple[int, str] = TV
        self.kill: Callable[[], None]

    def _note(self, *words: object) -> None:
        self.asked.append(words)
        if self.problem is not None:
            raise self.problem

    def own_device(self) -> DeviceDescription:
        return OWN

    def set_name(self, name: str) -> None:
        self._note("set_name", name)

    def trusted_devices(self) -> list[DeviceDescription]:
        return self.trusted

    def watch(self, watcher: IDeviceWatcher) -> None:
        self._note("watch")
        for event, device in self.news:
            watcher.device_changed(event, device)

    def unwatch(self, watcher: IDeviceWatcher) -> bool:
        self._note("unwatch")
        return True

    def publish(self, number: int, capability: int, data: str, holder: IFinder) -> None:
        self._note("publish", capability)

    def stop_publish(self, number: int) -> bool:
        return True

    def refresh(self, number: int, capability: int, finder: IFinder) -> None:
        self._note("refresh", capability)
        for device in self.near:
            finder.found(number, device)

    def stop_refresh(self, number: int) -> bool:
        self._note("stop_refresh")
        return True

    def offer_pairing(self, secret: bytes, lifetime: float, watcher: IPairingWatcher) -> PairingOffer:
        self._note("offer", secret, lifetime)
        if isinstance(self.end, tuple):
            watcher.ended(*self.end)
        else:
            watcher.paired(self.end)
        return PairingOffer("" if secret else "123456", ["10.0.0.1", "fe80::1"], 4712)

    def withdraw_offer(self) -> bool:
        self._note("withdraw")
        return False

    def pair(self, host: str, port: int, pin: str, secret: bytes) -> DeviceDescription:
        self._note("pair", host, port, pin, secret)
        return OFF

    def unpair(self, device: str) -> bool:
        self._note("unpair", device)
        return self.gone

    def revoke(self, device: str) -> bool:
        self._note("revoke", device)
        return self.gone

    def leave(self) -> None:
        self._note("leave")

    def sessions(self) -> ISessions:
        raise Problem(1, "nobody asks for sessions here")


class Manager:
    """SAMgr, as far as these commands ask it: only the process of its profile could register 4700 with a real one."""

    def __init__(self, softbus: bk.IRemoteObject) -> None:
        self._softbus = softbus

    def check_system_ability(self, ability: int) -> bk.IRemoteObject:
        assert ability == SOFTBUS_ID
        return self._softbus

    def load_system_ability(self, ability: int, timeout: float) -> bk.IRemoteObject:
        assert timeout > 0
        return self.check_system_ability(ability)


@pytest.fixture
def softbus(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftBus]:
    monkeypatch.setattr(commands, "NEAR_WAIT", 0.2)
    network, made = LoopbackNetwork(), SoftBus()
    server, client = network.process(), network.process()
    stub = made.as_object()
    assert isinstance(stub, bk.RemoteObject)
    manager = Manager(server.offer(stub, client))
    monkeypatch.setattr(target, "manager", lambda: manager)
    made.kill = server.kill
    try:
        yield made
    finally:
        network.close()


def run(*words: str) -> int:
    return main(["device", *words])


def test_the_help_says_what_each_is_for_with_an_example(capsys: Capture) -> None:
    assert run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "UDID" in text and "softbus.toml" in text and "binderkit[rpc]" in text
    for name in ("list", "pair", "unpair", "name", "watch", "leave"):
        assert name in text
        assert run(name, "--help") == 0
        assert f"binderkit device {name}" in capsys.readouterr().out


def test_the_list_shows_those_that_are_off_too(softbus: SoftBus, capsys: Capture) -> None:
    softbus.trusted[1] = DeviceDescription("c" * 64, "", "kitchen", "phone", False, False, 1, int(time.time()) - 7300)
    assert run("list") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "state", "type", "last", "seen", "udid", "network", "id"]
    assert rows[0].split() == ["study", "this", "device", "linux", "now", "a" * 16, "1" * 16]
    assert rows[1].split() == ["tv", "[red]", "online", "tv", "now", "b" * 16, "2" * 16]
    assert rows[2].split() == ["kitchen", "offline", "phone", "2", "hours", "ago", "c" * 16, "-"]


def test_the_list_for_programs(softbus: SoftBus, capsys: Capture) -> None:
    assert run("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["online"], row["this"]) for row in rows] == [
        ("study", True, True),
        ("tv [red]", True, False),
        ("kitchen", False, False),
    ]
    assert rows[1]["udid"] == "b" * 64 and rows[1]["last_seen"] == 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (86400, "1 day ago"),
        (400 * 86400, "400 days ago"),
    ],
)
def test_how_long_ago_it_was(seconds: float, text: str) -> None:
    assert commands._ago(seconds) == text


def test_those_near_by(softbus: SoftBus, capsys: Capture) -> None:
    softbus.near.append(NearbyDevice("e" * 32, "a\x1b[31m", "tv", 64, "", [], 0, False))
    assert run("list", "--near") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    # A stranger's name cannot colour the terminal.
    assert rows[1:] == [["a\ufffd[31m", "tv", "-", "no"], ["kitchen", "phone", "10.0.0.5", "4711", "yes"]]
    assert run("list", "--near", "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["a\x1b[31m", "kitchen"]
    assert softbus.asked == [("refresh", 6), ("stop_refresh",)] * 2


def test_a_pin_is_shown_and_the_end_is_told(softbus: SoftBus, capsys: Capture) -> None:
    assert run("pair") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PIN 123456"
    assert "binderkit device pair 'study'" in lines[1] and "10.0.0.1:4712 [fe80::1]:4712" in lines[1]
    assert lines[2] == f"paired with tv [red] ({'b' * 64})"
    assert softbus.asked == [("publish", 6), ("offer", b"", 120.0), ("withdraw",)]


def test_an_offer_that_nobody_took_ends_in_an_error(softbus: SoftBus, capsys: Capture) -> None:
    softbus.end = (-425983980, "nobody came within 120 s")
    assert run("pair") == 1
    assert capsys.readouterr().err == "binderkit: nobody came within 120 s [code -425983980]\n"
    assert softbus.asked[-1] == ("withdraw",)


def test_a_secret_is_offered_and_taken_without_a_pin(softbus: SoftBus, capsys: Capture, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 16)
    assert run("pair", "--secret", str(secret)) == 0
    assert capsys.readouterr().out.startswith("waiting for a device with the secret\n")
    assert run("pair", "10.0.0.5:4711", "--secret", str(secret)) == 0
    assert softbus.asked[-1] == ("pair", "10.0.0.5", 4711, "", b"s" * 16)
    assert run("pair", "10.0.0.5:4711", "--secret", str(tmp_path / "none")) == 1
    assert "none" in capsys.readouterr().err


def test_a_device_is_paired_by_its_name_or_address(softbus: SoftBus, capsys: Capture) -> None:
    assert run("pair", "kitchen", "--pin", "654321") == 0
    assert capsys.readouterr().out == f"paired with kitchen ({'c' * 64})\n"
    assert softbus.asked[-1] == ("pair", "10.0.0.5", 4711, "654321", b"")
    assert run("pair", "[fe80::1]:4711", "--pin", "654321") == 0
    assert softbus.asked[-1] == ("pair", "fe80::1", 4711, "654321", b"")


def test_a_pin_is_asked_for(softbus: SoftBus, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []

    def prompt(text: str, *, hide_input: bool) -> str:
        shown.append((text, hide_input))
        return "654321"

    monkeypatch.setattr("typer.prompt", prompt)
    assert run("pair", "10.0.0.5:4711") == 0
    assert shown == [("PIN", True)] and softbus.asked[-1][3] == "654321"


@pytest.mark.parametrize(
    ("near", "words"),
    [
        ([], "no device called 'kitchen' near by offers pairing"),
        ([NearbyDevice("d" * 32, "kitchen", "x", 64, "", ["10.0.0.5"], 0, False)], "offers pairing"),
        ([NearbyDevice("d" * 32, "kitchen", "x", 64, "", [], 1, False)], "announces no address"),
    ],
)
def test_who_cannot_be_paired_is_said(softbus: SoftBus, capsys: Capture, near: list[NearbyDevice], words: str) -> None:
    softbus.near = near
    assert run("pair", "kitchen", "--pin", "1") == 1
    text = capsys.readouterr().err
    assert words in text and "ADDRESS:PORT" in text and "[code 108]" in text


def test_what_softbus_refuses_is_shown_with_its_code(softbus: SoftBus, capsys: Capture) -> None:
    softbus.problem = Problem(-425983984, "the PINs of the two devices differ")
    for words in (("pair", "10.0.0.5:4711", "--pin", "1"), ("pair",), ("unpair", "tv"), ("name", "x"), ("leave",)):
        assert run(*words) == 1
        assert capsys.readouterr().err == "binderkit: the PINs of the two devices differ [code -425983984]\n"


def test_unpair_here_or_everywhere(softbus: SoftBus, capsys: Capture) -> None:
    assert run("unpair", "kitchen") == run("unpair", "kitchen", "--everywhere") == 0
    assert capsys.readouterr().out == (
        "kitchen is not trusted any more\nkitchen is not trusted any more, by no device of this circle\n"
    )
    assert softbus.asked == [("unpair", "kitchen"), ("revoke", "kitchen")]
    softbus.gone = False
    assert run("unpair", "kitchen") == 1
    assert "was not trusted" in capsys.readouterr().err
    assert run("unpair") == 2


def test_name_and_leave(softbus: SoftBus, capsys: Capture) -> None:
    assert run("name") == run("name", "garden") == run("leave") == 0
    assert capsys.readouterr().out.splitlines() == [
        "study",
        "this device is called garden now",
        "this device has left its circle and trusts no other any more",
    ]
    assert softbus.asked == [("set_name", "garden"), ("leave",)]


def test_watch_ends_after_so_many_events(softbus: SoftBus, capsys: Capture) -> None:
    softbus.news = [("online", TV), ("changed", OFF), ("offline", TV)]
    assert run("watch", "--count", "2") == 0
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [f"online tv [red] ({'b' * 16})", f"changed kitchen ({'c' * 16})"]
    assert softbus.asked == [("watch",), ("unwatch",)]


def test_watch_ends_with_softbus(softbus: SoftBus, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = commands._plain
    softbus.news = [("online", TV)]

    def last(text: str) -> str:
        if text == TV.name:
            softbus.kill()
        return shown(text)

    monkeypatch.setattr(commands, "_plain", last)
    assert run("watch") == 1
    assert "softbus ended" in capsys.readouterr().err


def test_names_are_completed(softbus: SoftBus) -> None:
    assert commands.complete_device("") == ["kitchen", "tv [red]"]
    assert commands.complete_device("k") == ["kitchen"]
    assert commands.complete_device("cc") == ["c" * 64]
    # Of several with one name each has another word.
    softbus.trusted.append(DeviceDescription("d" * 64, "", "kitchen", "x", False, False, 1))
    assert commands.complete_device("") == ["c" * 16, "d" * 16, "tv [red]"]
    softbus.trusted.append(DeviceDescription("e" * 64, "", "k\x1b[31m", "x", False, False, 1))
    assert commands.complete_device("k") == []


def test_without_softbus_nothing_is_completed_and_nothing_started(running_samgr: Samgr) -> None:
    assert commands.complete_device("") == []
    assert samgr.check_system_ability(SOFTBUS_ID) is None


def test_without_samgr_nothing_is_completed(device: Path) -> None:
    assert commands.complete_device("") == []
    assert list(device.iterdir()) == []


def test_why_softbus_cannot_run_is_shown(running_samgr: Samgr, device: Path, capsys: Capture) -> None:
    state = device / "softbus"
    state.mkdir(mode=0o700)
    (state / "softbus.toml").write_text("prot = 7447\n")
    for words in (("list",), ("pair",), ("watch", "-c", "1")):
        assert run(*words) == 1
        text = capsys.readouterr().err
        assert "failed to start" in text and "prot: there is no such field; did you mean 'port'?" in text


def test_without_samgr_it_is_said_what_to_do(device: Path, capsys: Capture) -> None:
    assert run("list") == 1
    assert "no SAMgr runs" in capsys.readouterr().err
