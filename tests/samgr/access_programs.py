"""What the tests of access.py run in processes of their own: a guarded service, and a client that tries everything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator

from binderkit import process, samgr
from binderkit.driver.unix.ending import Ending
from binderkit.errors import IpcError
from binderkit.interface import Interface, method, proxy
from binderkit.ipc.skeleton import IPCSkeleton
from binderkit.samgr.access import requires_permission

SERVICE = 0x2001
CAMERA = "ohos.permission.CAMERA"
MEDIA = "ohos.permission.MEDIA"


class ICamera(Interface, descriptor="tests.ICamera"):
    @method
    def shoot(self, width: int, *, note: str = "") -> str: ...
    @method
    def record(self, seconds: float) -> float: ...
    @method
    def frames(self, count: int) -> Iterator[int]: ...
    @method
    def live(self, count: int) -> AsyncIterator[int]: ...
    @method
    def my_token(self) -> int: ...


class Camera(ICamera):
    @requires_permission(CAMERA)
    def shoot(self, width: int, *, note: str = "") -> str:
        """Take a picture."""
        return f"{width}{note}"

    @requires_permission(CAMERA)
    async def record(self, seconds: float) -> float:  # type: ignore[override]  # a coroutine is awaited for the caller
        return seconds * 2

    @requires_permission(CAMERA)
    def frames(self, count: int) -> Iterator[int]:
        yield from range(count)

    @requires_permission(CAMERA)
    async def live(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    def my_token(self) -> int:
        return IPCSkeleton.get_calling_token_id()


def outcome(action: Callable[[], object]) -> object:
    """Return what an action returns, or what it raises as text."""
    try:
        return action()
    except IpcError as error:
        return f"{type(error).__name__} {error.code}: {error.args[0]}"


def serve() -> None:
    """Offer a Camera until SIGTERM."""
    with Ending() as ending:
        camera = Camera()
        samgr.add_system_ability(SERVICE, camera)
        ending.wait()
        process.shutdown()


def attempts() -> dict[str, object]:
    """Try everything as a client."""
    camera = proxy(ICamera, samgr.wait_for_system_ability(SERVICE, 20))
    return {
        "pid": os.getpid(),
        "own": IPCSkeleton.get_calling_token_id(),
        "seen": camera.my_token(),
        "shoot": outcome(lambda: camera.shoot(3, note="!")),
        "again": outcome(lambda: camera.shoot(4)),
        "record": outcome(lambda: camera.record(1.5)),
        "frames": outcome(lambda: list(camera.frames(3))),
    }


def main(what: str) -> None:
    """Be the service or the client."""
    if what == "service":
        serve()
        return
    print(json.dumps(attempts()), flush=True)
    process.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
