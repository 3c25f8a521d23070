"""Connect to another application's service: a bundle with a manifest, a Want, and what happens when the service ends.

Nobody starts the service; the ability manager does, for the first client, and ends it after the last one. This example
uses a runtime directory of its own, so it touches no other service of yours.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import tempfile
import threading
from pathlib import Path

import binderkit as bk
from binderkit import samgr
from binderkit.ability import (
    AbilityError,
    ConnectOptions,
    ServiceExtensionAbility,
    Want,
    connect,
    connect_service_extension_ability,
)
from binderkit.interface import Interface, aio, method

HERE = Path(__file__).absolute()
MANIFEST = f"""
name = "com.example.music"

[[ability]]
name = "Player"
exported = true                           # other applications may use it
entry = "{HERE}:Player"

[[ability]]
name = "Studio"                           # they may not
entry = "{HERE}:Player"
"""
PLAYER = Want("com.example.music", "Player", parameters={"volume": 7})


class ISongs(Interface, descriptor="com.example.ISongs"):
    """The contract."""

    @method
    def play(self, song: str) -> str: ...


class Songs(ISongs):
    """What clients get."""

    def __init__(self, volume: int) -> None:
        self._volume = volume

    def play(self, song: str) -> str:
        """Play a song."""
        return f"la la {song}, volume {self._volume}"


class Player(ServiceExtensionAbility):
    """The service ability. Lives in a process that the ability manager starts."""

    def on_connect(self, want: Want) -> Songs:
        """The first client connects; later ones get the same object."""
        return Songs(int(want.parameters["volume"]))


class Ended(threading.Event, bk.DeathRecipient):
    """Is set when a process ended."""

    def on_remote_died(self) -> None:
        """It did."""
        self.set()


async def listen() -> None:
    """Connect for as long as a block runs, without blocking the event loop."""
    async with connect(PLAYER, ISongs) as songs:
        print(await aio(songs.play)("Elise"))


def lose() -> None:
    """Connect with callbacks, OpenHarmony's way, and lose the service."""
    told: queue.Queue[object] = queue.Queue()
    options = ConnectOptions(
        on_connect=lambda element, remote: told.put(remote),
        on_disconnect=lambda element: told.put(f"{element.ability_name} is gone"),
        on_failed=lambda code: told.put(code.text),
    )
    connect_service_extension_ability(PLAYER, options)
    remote = told.get(timeout=20)
    assert isinstance(remote, bk.RemoteProxy), remote
    os.kill(remote.owner.pid, signal.SIGKILL)
    print(told.get(timeout=20))


def main() -> None:
    """Install the bundle on a device of its own, use it, end the device."""
    with tempfile.TemporaryDirectory(prefix="bk-") as directory:
        os.environ["BINDERKIT_RUNTIME_DIR"] = directory
        bundle = Path(directory, "bundles", "com.example.music")
        bundle.mkdir(parents=True)
        (bundle / "bundle.toml").write_text(MANIFEST)
        with connect(PLAYER, ISongs) as songs:
            print(songs.play("Ode to Joy"))
        asyncio.run(listen())
        lose()
        try:
            with connect(Want("com.example.music", "Studio")):
                print("this is not reached")
        except AbilityError as error:
            print("the studio is not for us, code", error.code)
        daemon = samgr.system_ability_manager().as_object()
        assert isinstance(daemon, bk.RemoteProxy)
        daemon.register_death_recipient(ended := Ended())
        os.kill(daemon.owner.pid, signal.SIGTERM)
        ended.wait(20)


if __name__ == "__main__":
    main()
