"""This machine's addresses, and noticing that they change.

Owns: ``own_addresses`` and ``AddressWatch``. Why it looks every few seconds instead of being told: netlink would be
sockets and a binary format of our own for what one cheap call says.

Rules upheld:

- A change counts when two looks agree on it, so that a network that is just coming up is taken once.
- No address at all is no change: nobody can be reached either way, and often the same one comes back, with everything
  that was under way.
- An address that is gone counts after the lease: links over it are dead and given up then; an engine that is closed
  before waits four times as long for them (measured).
- What the user of a change raises is logged, and it is tried again.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import ifaddr

from binderkit import limits
from binderkit.errors import IpcError

__all__ = ["LOOPBACK", "AddressWatch", "only_loopback", "own_addresses"]

_log: Final = logging.getLogger("binderkit.softbus")
LOOPBACK: Final = ("127.0.0.1",)
LOOK: Final = 1.0
"""Seconds between two looks."""


def own_addresses() -> tuple[str, ...]:
    """Return this machine's IPv4 addresses in its networks, in order; the loopback one only when there is no other."""
    there = [one for adapter in ifaddr.get_adapters() for one in adapter.ips if one.is_IPv4]
    found = {ipaddress.ip_address(str(one.ip)) for one in there}
    return tuple(str(one) for one in sorted(found, key=int) if not one.is_loopback) or LOOPBACK


def only_loopback(hosts: tuple[str, ...]) -> bool:
    """Return whether nobody outside this machine reaches these addresses."""
    return all(ipaddress.ip_address(host).is_loopback for host in hosts)


class AddressWatch:
    """Tells of new addresses until ``close``.

    Args:
        current: the addresses that are in use.
        changed: called with others, on the thread of this object; it may wait, and is called again with the next look
            when it raises IpcError or OSError.
        look: returns the addresses there are. interval: seconds between two looks. clock: seconds that never go back.
    """

    def __init__(
        self,
        current: tuple[str, ...],
        changed: Callable[[tuple[str, ...]], None],
        *,
        look: Callable[[], tuple[str, ...]] = own_addresses,
        interval: float = LOOK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._current = self._seen = current
        self._changed = changed
        self._look = look
        self._interval = interval
        self._clock = clock
        self._gone_at: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="binderkit-addresses", daemon=True)
        self._thread.start()

    def again(self) -> None:
        """Have ``changed`` called with the next look even if nothing changed: the addresses could not be used."""
        self._current = ()

    def close(self) -> None:
        """Look no more; waits for a change that is being carried out."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                self.look_once()
            except (IpcError, OSError) as error:
                _log.warning("this device's new addresses cannot be used yet: %s", error)

    def look_once(self) -> None:
        """Look now; on the thread of this object, or in place of it."""
        before, self._seen = self._seen, self._look()
        current = self._current
        if set(current) <= set(self._seen):
            self._gone_at = None
        elif self._gone_at is None:
            self._gone_at = self._clock()
        if self._seen == current or self._seen != before or (current and self._seen == LOOPBACK):
            return
        if self._gone_at is not None and self._clock() - self._gone_at < limits.RPC_LEASE:
            return
        _log.info(
            "this device's addresses are %s now, no longer %s", ", ".join(self._seen), ", ".join(current) or "none"
        )
        self._current = ()
        self._changed(self._seen)
        self._current = self._seen
