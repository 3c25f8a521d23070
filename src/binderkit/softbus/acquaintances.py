"""What trusted devices called themselves when they were last seen.

Owns: ``Acquaintances`` and its file ``acquaintances.json``. Why: the circle's list has the names devices were paired
with; a person knows a device by the name it has now, also while it is off.

Rules upheld: only trusted devices are remembered; the file is written on a thread of its own, and one that cannot be
read is begun anew: nothing depends on it but what people are shown.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from binderkit.errors import ParamValueError, SoftBusError
from binderkit.softbus.engine import DeviceInfo
from binderkit.softbus.identity import check_udid, read_private, write_private
from binderkit.softbus.latest import Latest
from binderkit.softbus.zenoh_config import check_name

__all__ = ["Acquaintance", "Acquaintances"]

_log: Final = logging.getLogger("binderkit.softbus")
_FILE: Final = "acquaintances.json"


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """What a device called itself: ``name``, ``device_type``; and when it was ``seen`` last, seconds since 1970."""

    name: str
    device_type: str
    seen: int


class Acquaintances:
    """Remembers devices; close it.

    Args:
        directory: the state directory. trusted: the devices to remember; others are forgotten.
        clock: seconds since 1970.
    """

    def __init__(self, directory: Path, trusted: Iterable[str], *, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / _FILE
        self._clock = clock
        self._lock = threading.Lock()
        self._known = _load(self._path)
        self._writer = Latest(self._write, "binderkit-acquaintances")
        self.restrict(trusted)

    def note(self, info: DeviceInfo) -> None:
        """Take what a trusted device says of itself now; never blocks."""
        with self._lock:
            self._known[info.udid] = Acquaintance(info.name, info.device_type, max(0, int(self._clock())))
        self._writer.due()

    def of(self, udid: str) -> Acquaintance | None:
        """Return what is remembered of a device, None when it was never seen."""
        with self._lock:
            return self._known.get(udid)

    def restrict(self, trusted: Iterable[str]) -> None:
        """Forget all devices but these; never blocks."""
        wanted = frozenset(trusted)
        with self._lock:
            kept = {udid: one for udid, one in self._known.items() if udid in wanted}
            changed = kept != self._known
            self._known = kept
        if changed:
            self._writer.due()

    def close(self, online: Iterable[str] = ()) -> None:
        """Write down what is due; ``online``: devices that are still there, so seen now."""
        with self._lock:
            now = max(0, int(self._clock()))
            for udid in set(online) & self._known.keys():
                self._known[udid] = replace(self._known[udid], seen=now)
        self._writer.due()
        self._writer.close(last=True)

    def _write(self) -> None:
        with self._lock:
            rows = {udid: asdict(one) for udid, one in sorted(self._known.items())}
        try:
            write_private(self._path, json.dumps(rows, indent=1).encode())
        except OSError as error:
            _log.warning(
                "%s cannot be written, the names of devices that are offline may be old: %s", self._path, error
            )


def _load(path: Path) -> dict[str, Acquaintance]:
    try:
        return dict(map(_entry, dict(json.loads(read_private(path))).items()))
    except FileNotFoundError:
        return {}
    except (OSError, SoftBusError, ParamValueError, ValueError, TypeError, KeyError, RecursionError) as error:
        _log.warning("%s is begun anew, because it cannot be used: %s", path, error)
        return {}


def _entry(row: tuple[str, Any]) -> tuple[str, Acquaintance]:
    udid, said = row
    one = Acquaintance(**said)
    if type(one.name) is not str or type(one.device_type) is not str or type(one.seen) is not int:
        raise ValueError(f"the entry of {udid!r} is none")
    return check_udid(udid), replace(one, name=check_name(one.name), seen=max(0, one.seen))
