"""Listening to what devices near by announce, until it is ended.

Owns: ``Browser``: the thread of mDNS that hears, and one that asks those who
left something out of their announcement.

Why a second thread: an answer takes up to half a second, and a stranger who
announces names that nobody answers for must not delay the others.

Rules upheld: what waits to be asked is bounded; ending it waits for both
threads, except when one of them (a callback of its user) is what ends it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from zeroconf import BadTypeInNameException, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError

__all__ = ["Browser"]

_log: Final = logging.getLogger("binderkit.softbus")
_ASK_WAIT: Final = 500
"""Milliseconds to wait for what a device left out of its announcement."""
_MAX_ASKED: Final = 64
"""Devices that wait to be asked."""


class Browser:
    """Hears who announces a kind of service.

    Args:
        zeroconf: the network.
        service_type: the kind, as "_softbus._udp.local.".
        seen: called with this browser, the service's name and its records, when they are new or changed.
        gone: called with this browser and the service's name when it was taken back or ran out.
    """

    def __init__(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        seen: Callable[[Browser, str, ServiceInfo], None],
        gone: Callable[[Browser, str], None],
    ) -> None:
        self._zeroconf = zeroconf
        self._type = service_type
        self._seen = seen
        self._gone = gone
        self._asked: queue.Queue[str | None] = queue.Queue(_MAX_ASKED)
        self._asker = threading.Thread(target=self._ask, name="binderkit-discovery", daemon=True)
        self._hearer: ServiceBrowser | None = None

    def start(self) -> None:
        """Begin; once."""
        self._asker.start()
        self._hearer = ServiceBrowser(self._zeroconf, self._type, handlers=[self._heard])

    def on_own_thread(self) -> bool:
        """Return whether the caller runs in one of this browser's callbacks."""
        return threading.current_thread() in (self._asker, self._hearer)

    def end(self) -> None:
        """Stop and wait for both threads; not from a callback."""
        assert self._hearer is not None
        self._hearer.cancel()
        # Nobody puts anything in any more. What waits is dropped, so that the end comes within one question.
        while True:
            try:
                self._asked.get_nowait()
            except queue.Empty:
                break
        self._asked.put(None)
        self._asker.join()

    def _heard(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self._gone(self, name)
            return
        try:
            info = ServiceInfo(service_type, name)
        except (BadTypeInNameException, ZeroconfError):
            return  # a stranger's nonsense
        if info.load_from_cache(zeroconf):
            self._seen(self, name, info)
            return
        try:
            self._asked.put_nowait(name)
        except queue.Full:
            _log.warning("too many devices announce themselves without saying what they are; %r is not asked", name)

    def _ask(self) -> None:
        while (name := self._asked.get()) is not None:
            info = ServiceInfo(self._type, name)
            try:
                complete = info.request(self._zeroconf, _ASK_WAIT)
            except (ZeroconfError, TimeoutError) as error:
                _log.warning("device %r cannot be asked what it is: %r", name, error)
                continue
            if complete:
                self._seen(self, name, info)
