"""``python -m binderkit.ability.host``: the process that a bundle's service abilities live in.

Owns: the process from its start by the ability manager to its end. Which bundle it is for comes from its environment,
which the one who starts it makes; what to load comes from that bundle's manifest.

Rules upheld: it ends with SIGTERM, and with the ability manager; on_destroy of what lives is called before, and a hung
one does not keep the process alive for more than END_WAIT seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from binderkit import process, samgr
from binderkit.ability import codes
from binderkit.ability.contracts import IAbilityHost, IAbilityManager, Refusal
from binderkit.ability.manifest import load_bundle
from binderkit.ability.scheduler import AbilityScheduler, check_manager
from binderkit.driver.unix.ending import Ending
from binderkit.errors import IpcError
from binderkit.interface import proxy
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy

if TYPE_CHECKING:
    from binderkit.ability.manifest import Bundle

_log = logging.getLogger("binderkit.ability")
BUNDLE_VARIABLE: Final = "BINDERKIT_BUNDLE"
"""Environment variable that tells a host the folder of its bundle."""
END_WAIT: Final = 5.0


class AbilityHost(IAbilityHost):
    """This process, as the ability manager sees it.

    Args:
        manager: the ability manager. bundle: whose abilities may be loaded here.
    """

    def __init__(self, manager: IAbilityManager, bundle: Bundle) -> None:
        self._manager = manager
        self._bundle = bundle
        self._lock = threading.Lock()
        self._schedulers: dict[int, AbilityScheduler] = {}

    def load(self, ability: int, name: str) -> None:
        """Make what the manager talks to for one ability; its code is imported when it is created."""
        check_manager(self._manager)
        manifest = self._bundle.ability(name)
        if manifest is None:
            # Only if the manifest changed since the manager read it; its time limit tells the clients.
            _log.error("bundle %s has no ability %r any more", self._bundle.name, name)
            return
        scheduler = AbilityScheduler(self._manager, ability, self._bundle, manifest, lambda: self._drop(ability))
        with self._lock:
            self._schedulers[ability] = scheduler
        try:
            self._manager.ability_loaded(ability, scheduler)
        except (Refusal, IpcError) as error:
            _log.warning("%s cannot be reported as loaded: %s", scheduler.element, error)
            self._drop(ability)

    def close(self) -> None:
        """Destroy every ability that lives."""
        with self._lock:
            left = list(self._schedulers.values())
            self._schedulers.clear()
        for scheduler in left:
            scheduler.close(END_WAIT)

    def _drop(self, ability: int) -> None:
        with self._lock:
            self._schedulers.pop(ability, None)


class _ManagerDied(DeathRecipient):
    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def on_remote_died(self) -> None:
        _log.info("the ability manager ended; so does this process")
        self._ending.come()


def run(bundle: Bundle) -> None:
    """Host a bundle's abilities until SIGTERM comes or the ability manager ends.

    Raises:
        Refusal: this process was not started by the ability manager.
        ServiceError: there is no ability manager.
    """
    sys.path.insert(0, os.fspath(bundle.path))
    with Ending() as ending:
        _serve(bundle, ending)


def _serve(bundle: Bundle, ending: Ending) -> None:
    manager = proxy(IAbilityManager, samgr.get_system_ability(codes.ABILITY_MANAGER_ID))
    remote = manager.as_object()
    if isinstance(remote, RemoteProxy):
        remote.register_death_recipient(_ManagerDied(ending))
    host = AbilityHost(manager, bundle)
    manager.attach_host(host)
    ending.wait()
    # Nobody may be there any more to kill a process whose code hangs.
    last_resort = threading.Timer(END_WAIT, _end_now)
    last_resort.daemon = True
    last_resort.start()
    host.close()
    process.shutdown()
    last_resort.cancel()


def _end_now() -> None:
    _log.error("on_destroy does not return; the process ends without it")
    os._exit(1)


def main() -> int:
    """Run the host of the bundle that the environment names; return the exit code (0 ended, 1 could not run)."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = os.environ.get(BUNDLE_VARIABLE)
    if not folder:
        print(
            f"{BUNDLE_VARIABLE} is not set: hosts of abilities are started by the ability manager; "
            "use start_service_extension_ability",
            file=sys.stderr,
        )
        return 1
    try:
        run(load_bundle(folder))
    except (IpcError, Refusal, OSError) as error:
        print(f"ability host for {folder}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
