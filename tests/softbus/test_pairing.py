"""binderkit.softbus.pairing: two devices over real TLS, and strangers at the door."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from binderkit import limits
from binderkit.errors import PairingError, PairingLockedError, ParamValueError, WrongPinError
from binderkit.softbus.pairing import Offer, Pairing
from binderkit.softbus.pairing_stream import Door, connect
from binderkit.softbus.trust import TrustedDevice, TrustStore
from tests.softbus.stores import Clock, make

HOST = "127.0.0.1"
SECRET = bytes(range(32))


class Device:
    """A device with its store, its pairing and a clock for its lock."""

    def __init__(self, directory: Path, name: str) -> None:
        self.clock = Clock()
        self.store = make(directory, name)
        self.pairing = Pairing(self.store, clock=self.clock)

    def join(self, offer: Offer, pin: str | bytes = "") -> TrustedDevice:
        return self.pairing.join((HOST, offer.port), pin or offer.pin)

    def guess(self, offer: Offer) -> None:
        """Type a wrong PIN, from a device that has typed none before."""
        with pytest.raises(WrongPinError):
            Pairing(make(self.store.directory, os.urandom(8).hex())).join((HOST, offer.port), wrong(offer.pin))


def wrong(pin: str) -> str:
    return f"{(int(pin) + 1) % 10**limits.PIN_DIGITS:0{limits.PIN_DIGITS}d}"


@pytest.fixture
def shows(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, "shows")
    yield device
    device.pairing.close()


@pytest.fixture
def types(tmp_path: Path) -> Device:
    return Device(tmp_path, "types")


def test_a_pin_makes_two_devices_trust_each_other(shows: Device, types: Device) -> None:
    heard: list[TrustedDevice] = []
    with shows.pairing.offer(host=HOST, paired=heard.append) as offer:
        assert len(offer.pin) == limits.PIN_DIGITS and offer.pin not in repr(offer)
        assert types.join(offer).udid == shows.store.udid
        assert offer.wait(10).udid == types.store.udid
        assert heard == offer.devices() == list(shows.store.trusted().values())
    assert TrustStore(types.store.directory).trusted().keys() == {shows.store.udid}


def test_a_pin_is_good_for_one_device(shows: Device, types: Device, tmp_path: Path) -> None:
    with shows.pairing.offer(host=HOST) as offer:
        types.join(offer)
        offer.wait(10)
        with pytest.raises(PairingError):
            Device(tmp_path, "late").join(offer)
    assert shows.store.trusted().keys() == {types.store.udid}


def test_two_devices_with_one_pin_at_once_only_one_is_paired(shows: Device, tmp_path: Path) -> None:
    devices = [Device(tmp_path, name) for name in "ab"]
    outcome: list[bool] = []
    with shows.pairing.offer(host=HOST) as offer:

        def join(device: Device) -> None:
            try:
                device.join(offer)
            except PairingError:
                outcome.append(False)
            else:
                outcome.append(True)

        threads = [threading.Thread(target=join, args=(device,)) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcome) == [False, True]
    assert len(shows.store.trusted()) == 1


def test_pins_are_random(shows: Device) -> None:
    pins = set()
    for _ in range(5):
        with shows.pairing.offer(host=HOST) as offer:
            pins.add(offer.pin)
    assert len(pins) > 1


def test_three_wrong_pins_withdraw_the_offer_and_lock_pairing(
    shows: Device, types: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), shows.pairing.offer(host=HOST) as offer:
        for _ in range(limits.WRONG_PINS):
            assert shows.pairing.locked() == 0
            types.guess(offer)
        assert shows.pairing.locked() == limits.PAIRING_LOCK
        with pytest.raises(PairingLockedError):
            offer.wait(10)
        with pytest.raises(PairingError):
            types.join(offer)  # the right one, too late
    assert caplog.text.count("a device was not paired") >= limits.WRONG_PINS
    for locked in (shows.pairing, Pairing(TrustStore(shows.store.directory), clock=shows.clock)):
        with pytest.raises(PairingLockedError):
            locked.offer(host=HOST)
        with pytest.raises(PairingLockedError):
            locked.join((HOST, 1), "123456")
    assert shows.store.alone and types.store.alone
    shows.clock.now += limits.PAIRING_LOCK
    with shows.pairing.offer(host=HOST) as offer:
        types.join(offer)


def test_wrong_pins_of_several_offers_add_up(shows: Device, types: Device) -> None:
    for _ in range(limits.WRONG_PINS):
        with shows.pairing.offer(host=HOST) as offer:
            types.guess(offer)
    assert shows.pairing.locked() > 0


def test_who_types_wrong_pins_is_locked_too(types: Device, tmp_path: Path) -> None:
    """Else a stranger who offers in another device's place could try a PIN each time."""
    for number in range(limits.WRONG_PINS):
        device = Device(tmp_path, str(number))
        with device.pairing.offer(host=HOST) as offer, pytest.raises(WrongPinError):
            types.join(offer, wrong(offer.pin))
    assert types.pairing.locked() > 0
    with pytest.raises(PairingLockedError):
        types.pairing.join((HOST, 1), "123456")


def test_a_connection_that_goes_before_it_guesses_costs_nothing(shows: Device, types: Device) -> None:
    """It learns nothing either; a neighbour that only connects must not lock pairing."""
    with shows.pairing.offer(host=HOST) as offer:
        for _ in range(5):
            channel, _ = connect((HOST, offer.port))
            channel.send(b"\1")  # half a HELLO
            channel.receive()  # REFUSED
            channel.close()
        assert shows.pairing.locked() == 0
        types.join(offer)


def test_connections_that_say_nothing_do_not_shut_the_door(shows: Device, types: Device) -> None:
    with shows.pairing.offer(host=HOST) as offer, contextlib.ExitStack() as stack:
        for _ in range(3 * limits.MAX_PAIRING_SESSIONS):
            stack.enter_context(socket.create_connection((HOST, offer.port)))
        types.join(offer)
        assert threading.active_count() < limits.MAX_PAIRING_SESSIONS + 10


def test_a_man_in_the_middle_learns_nothing_and_is_noticed(shows: Device, types: Device) -> None:
    """He ends both TLS connections and passes every frame on, unchanged."""
    between = Door(HOST, 0)
    seen: list[bytes] = []

    def relay(offer: Offer) -> None:
        near = between.accept(10)
        near.handshake()
        far, _ = connect((HOST, offer.port))
        with contextlib.suppress(PairingError):
            while True:
                for source, sink in ((near, far), (far, near)):
                    seen.append(source.receive())
                    sink.send(seen[-1])
        near.close()
        far.close()

    with shows.pairing.offer(host=HOST) as offer:
        thread = threading.Thread(target=relay, args=(offer,))
        thread.start()
        with pytest.raises(WrongPinError, match="in between"):
            types.pairing.join((HOST, between.port), offer.pin)
        thread.join()
    between.close()
    assert shows.store.alone and types.store.alone
    said = b"".join(seen)
    assert shows.store.udid.encode() not in said and types.store.udid.encode() not in said


def test_nonsense_at_the_door_is_logged_and_harmless(
    shows: Device, types: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), shows.pairing.offer(host=HOST) as offer:
        for nonsense in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(300)):
            with socket.create_connection((HOST, offer.port)) as plain:
                plain.sendall(nonsense)
                plain.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while plain.recv(1000):
                        pass
        for frame in (b"", b"\x63", os.urandom(200), b"\1" + b"\xff" * 40):
            channel, _ = connect((HOST, offer.port))
            channel.send(frame)
            assert channel.receive()[0] == 15  # REFUSED
            channel.close()
        types.join(offer)
    assert caplog.text.count("a device was not paired") == 7


def test_a_pin_is_too_late_after_its_time(shows: Device, types: Device) -> None:
    with shows.pairing.offer(host=HOST, lifetime=0.05) as offer:
        with pytest.raises(PairingError) as caught:
            offer.wait(10)
        assert caught.value.code == -425983980 and offer.over
        with pytest.raises(PairingError):
            types.join(offer)
    for lifetime in (0, -1, limits.PIN_LIFETIME + 1, float("nan")):
        with pytest.raises(ParamValueError):
            shows.pairing.offer(host=HOST, lifetime=lifetime)


def test_waiting_has_its_own_end_and_a_withdrawn_offer_says_so(shows: Device) -> None:
    offer = shows.pairing.offer(host=HOST)
    with pytest.raises(TimeoutError, match="still stands"):
        offer.wait(0.01)
    shows.pairing.close()
    offer.close()
    with pytest.raises(PairingError, match="withdrawn"):
        offer.wait()


def test_closing_an_offer_ends_connections_that_wait(shows: Device) -> None:
    offer = shows.pairing.offer(host=HOST)
    channel, _ = connect((HOST, offer.port))
    offer.close()
    with pytest.raises(PairingError):
        channel.receive()
    channel.close()


# --- a secret for a fleet ---------------------------------------------------------------------------


def test_a_fleet_pairs_with_a_secret_and_nobody_there(shows: Device, tmp_path: Path) -> None:
    fleet = [Device(tmp_path, name) for name in "abc"]
    with shows.pairing.offer(secret=SECRET, host=HOST) as offer:
        assert offer.pin == ""
        threads = [threading.Thread(target=device.join, args=(offer, SECRET)) for device in fleet]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not offer.over
    assert shows.store.trusted().keys() == {device.store.udid for device in fleet}


def test_a_wrong_secret_is_refused_and_locks_nothing(shows: Device, types: Device, tmp_path: Path) -> None:
    with shows.pairing.offer(secret=SECRET, host=HOST) as offer:
        for _ in range(limits.WRONG_PINS + 1):
            with pytest.raises(WrongPinError):
                types.join(offer, bytes(32))
        with pytest.raises(WrongPinError):
            Device(tmp_path, "pin").join(offer, "123456")
        assert shows.pairing.locked() == types.pairing.locked() == 0
        types.join(offer, SECRET)
    with pytest.raises(ParamValueError):
        shows.pairing.offer(secret=b"short", host=HOST)


def test_a_callback_that_fails_changes_nothing(shows: Device, types: Device, caplog: pytest.LogCaptureFixture) -> None:
    def fails(device: TrustedDevice) -> None:
        raise ZeroDivisionError("on purpose")

    with caplog.at_level(logging.ERROR), shows.pairing.offer(host=HOST, paired=fails) as offer:
        types.join(offer)
        assert offer.wait(10).udid == types.store.udid
    assert "on purpose" in caplog.text


# --- what breaks in the middle -----------------------------------------------------------------------


def test_a_disk_that_is_full_on_either_side_leaves_no_half_pairing_that_cannot_be_healed(
    shows: Device, types: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in (shows, types):

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(device.store, "add" if device is shows else "join", full)
            with shows.pairing.offer(host=HOST) as offer:
                with pytest.raises(PairingError):
                    types.join(offer)
                with pytest.raises(PairingError, match="new offer"):
                    offer.wait(10)
        assert types.store.trusted() == {}
    with shows.pairing.offer(host=HOST) as offer:
        types.join(offer)
        offer.wait(10)
    assert shows.store.trusted().keys() == {types.store.udid}
    assert types.store.trusted().keys() == {shows.store.udid}


_KILLED = """
import os, signal, sys
from pathlib import Path
from binderkit.softbus.pairing import Pairing
from binderkit.softbus.trust import TrustStore
store = TrustStore(Path(sys.argv[1]), name="killed")
if sys.argv[4] == "before":
    store.join = lambda admission: os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[4] == "after":
    join = store.join
    store.join = lambda admission: (join(admission), os.kill(os.getpid(), signal.SIGKILL))
print(Pairing(store).join(("127.0.0.1", int(sys.argv[2])), sys.argv[3]).name)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_device_killed_in_the_middle_pairs_the_next_time(shows: Device, tmp_path: Path, when: str) -> None:
    def join(moment: str) -> subprocess.CompletedProcess[str]:
        with shows.pairing.offer(host=HOST) as offer:
            command = [sys.executable, "-c", _KILLED, str(tmp_path / "killed"), str(offer.port), offer.pin, moment]
            return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert join(when).returncode == -9
    again = join("never")
    assert (again.returncode, again.stdout) == (0, "shows\n"), again.stderr
    killed = TrustStore(tmp_path / "killed")
    assert killed.trusted().keys() == {shows.store.udid}
    assert shows.store.trusted().keys() == {killed.udid}
