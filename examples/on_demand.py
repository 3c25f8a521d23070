"""A service that nobody starts: SAMgr starts it when somebody asks for it, and stops it when nobody needs it.

The profile says when. The proxy finds the service again after it was killed. This example uses a runtime directory of
its own, so it touches no other service of yours.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path

import binderkit as bk
from binderkit import samgr
from binderkit.interface import Interface, method
from binderkit.samgr import OnDemandReason, Rebind, SystemAbility
from binderkit.samgr.events import set_parameter

NAME = "com.example.adder"
PROFILE = f"""
process = "adder-service"

[[ability]]
id = 9001
name = "{NAME}"
entry = "{Path(__file__).absolute()}:AdderAbility"
run-on-create = false                     # on demand

[ability.stop-on-demand]
recycle-delay = 0

[[ability.stop-on-demand.param]]          # stop it when this parameter becomes "off"
name = "adder.wanted"
value = "off"
"""


class IAdder(Interface, descriptor="com.example.IAdder"):
    """The contract."""

    @method
    def add(self, one: int, other: int) -> int: ...


class AdderAbility(SystemAbility, IAdder):
    """The service: a system ability that publishes itself. Lives in the process that SAMgr starts."""

    def on_start(self, reason: OnDemandReason) -> None:
        """Somebody asked for it."""
        self.publish(self)

    def add(self, one: int, other: int) -> int:
        """Add two numbers."""
        return one + other


class Ended(threading.Event, bk.DeathRecipient):
    """Is set when a process ended."""

    def on_remote_died(self) -> None:
        """It did."""
        self.set()


class Stopped(samgr.SystemProcessListener):
    """Hears that the service's process ended."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()

    def on_system_process_stopped(self, name: str, pid: int) -> None:
        """It did."""
        self.heard.set()


def state() -> str:
    """Return what SAMgr says of the service."""
    return next(status.state.name for status in samgr.list_ability_states() if status.name == NAME)


def end(remote: bk.IRemoteObject, pid: int, number: signal.Signals) -> None:
    """End the process that ``remote`` is in, and wait until it is noticed here."""
    remote.register_death_recipient(ended := Ended())
    os.kill(pid, number)
    ended.wait(20)


def use() -> None:
    """The client: it only asks."""
    print("before:", state())
    adder = samgr.get(IAdder, NAME, rebind=Rebind.WAIT)
    print("40 + 2 =", adder.add(40, 2))
    print("now:", state())

    samgr.subscribe_system_process(stopped := Stopped())
    set_parameter("adder.wanted", "off")
    print("told that it was stopped:", stopped.heard.wait(20))
    print("now:", state())

    print("asked again:", adder.add(40, 2))
    end(adder.as_object(), samgr.get_system_process_info(NAME).pid, signal.SIGKILL)
    print("killed, and asked again:", adder.add(40, 2))


def main() -> None:
    """Install the profile in a device of its own, use the service, end the device."""
    with tempfile.TemporaryDirectory(prefix="bk-") as directory:
        os.environ["BINDERKIT_RUNTIME_DIR"] = directory
        profiles = Path(directory, "profiles")
        profiles.mkdir(mode=0o700)
        (profiles / "adder-service.toml").write_text(PROFILE)
        use()
        daemon = samgr.system_ability_manager().as_object()
        assert isinstance(daemon, bk.RemoteProxy)
        end(daemon, daemon.owner.pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
