"""A device of its own for the measurements of SAMgr and of abilities: a daemon, its profiles and bundles.

Runs inside binderkit's client process (bench/peers/own.py), whose runtime directory the device is in. One device for
each measurement: what one leaves behind cannot touch the next.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic_ns, perf_counter_ns

import binderkit as bk
from bench import measure
from bench.services import Echo
from bench.trivial_ability import BEGAN, BEGAN_VARIABLE, ECHO
from binderkit import limits, samgr
from binderkit.ability import Want, connect
from binderkit.samgr import SystemAbilityListener, SystemAbilityManagerClient, SystemProcessListener

FIRST_ID = 0x4000
"""Of the abilities in profiles."""
CROWD_ID = 0x8000
"""First id of the crowd, and of what is subscribed to."""
WAIT = 20.0
"""Seconds until a process that is to come must be there."""
_FOLDER = Path(__file__).parent
_PROFILE = """\
process = "bench-{id}"
environment = {{ PYTHONPATH = "{path}" }}

[[ability]]
id = {id}
entry = "{folder}/trivial_ability.py:Trivial"
run-on-create = {boot}
"""
_BUNDLE = """\
name = "{name}"

[[ability]]
name = "Trivial"
exported = true
entry = "trivial_extension.py:Trivial"
"""
# Python runs this before the program: the only way to see the start of the program from inside.
_BEGINNING = f"import os, time\nos.environ[{BEGAN_VARIABLE!r}] = str(time.monotonic_ns())\n"


@contextmanager
def device(folder: Path, *, profiles: int = 0, boot: bool = False, bundles: int = 0) -> Iterator[None]:
    """Run a daemon in ``folder``, the runtime directory, as long as the block.

    Args:
        folder: of this user only. profiles: how many processes with one trivial ability, FIRST_ID and following.
        boot: whether they are started with the device. bundles: how many with one trivial service ability.
    """
    _install(folder, profiles, bundles, boot=boot)
    ready, said = os.pipe()
    with open(ready, "rb") as listening, (folder / "daemon.log").open("ab") as log:
        try:
            # Its own process group: it must be asked to end, or its services would outlive it.
            command = [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(said)]
            running = subprocess.Popen(command, pass_fds=[said], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)  # fmt: skip
        finally:
            os.close(said)
        try:
            if listening.read() != b"R":
                raise RuntimeError(f"the daemon did not start; its last words: {_last_words(folder / 'daemon.log')}")
            yield
        finally:
            running.terminate()
            running.wait(WAIT)


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])


def _install(folder: Path, profiles: int, bundles: int, *, boot: bool) -> None:
    for name in ("profiles", "bundles", "beginning"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(mode=0o700)
    (folder / "beginning" / "sitecustomize.py").write_text(_BEGINNING)
    path = os.pathsep.join([str(folder / "beginning"), *filter(None, [os.environ.get("PYTHONPATH")])])
    for id in range(FIRST_ID, FIRST_ID + profiles):
        text = _PROFILE.format(id=id, path=path, folder=_FOLDER, boot=str(boot).lower())
        (folder / "profiles" / f"bench-{id}.toml").write_text(text)
    for number in range(bundles):
        place = folder / "bundles" / _bundle(number)
        place.mkdir(mode=0o700)
        (place / "bundle.toml").write_text(_BUNDLE.format(name=_bundle(number)))
        shutil.copy(_FOLDER / "trivial_extension.py", place)


def _bundle(number: int) -> str:
    return f"bench.bundle{number}"


def _manager() -> SystemAbilityManagerClient:
    """Return a client that remembers nothing: the next device must not get what this one was told."""
    return SystemAbilityManagerClient(bk.IPCSkeleton.get_context_object())


def _call(target: bk.IRemoteObject) -> None:
    data = bk.MessageSequence()
    reply = bk.MessageSequence()
    data.write_int(7)
    target.send_request(ECHO, data, reply)
    if reply.read_int() != 7:
        raise AssertionError("the ability answered something else")


# --- get ----------------------------------------------------------------------------------------------------


class _Arrivals(SystemAbilityListener):
    """Counts abilities that are there, without getting them."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self._missing = expected
        self.all = threading.Event()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """Count; called for one ability at a time."""
        self._missing -= 1
        if self._missing == 0:
            self.all.set()


@contextmanager
def _running(folder: Path, number: int) -> Iterator[range]:
    """A device on which ``number`` abilities run, each in a process that this one has not met; yields their ids."""
    with device(folder, profiles=number, boot=True):
        ids = range(FIRST_ID, FIRST_ID + number)
        arrivals = _Arrivals(number)
        manager = _manager()
        for id in ids:
            manager.subscribe_system_ability(id, arrivals)
        if not arrivals.all.wait(WAIT):
            raise AssertionError(f"not all of {number} abilities started within {WAIT:g} s")
        for id in ids:
            manager.unsubscribe_system_ability(id, arrivals)
        yield ids


def get(folder: Path, seconds: float, number: int) -> dict[str, float]:
    """Get an ability that runs, for the first time, in a process never met; ``number`` times, each another one."""
    with _running(folder, number) as ids:
        samples = []
        for id in ids:
            before = perf_counter_ns()
            found = samgr.get_system_ability(id)
            samples.append(perf_counter_ns() - before)
            _call(found)
        return measure.summary(samples)


def get_again(folder: Path, seconds: float, number: int) -> dict[str, float]:
    """Get an ability again and again; each time its proxy is forgotten before."""
    with _running(folder, 1):
        return _timed_get(seconds)


def get_crowded(folder: Path, seconds: float, number: int) -> dict[str, float]:
    """The same when as many abilities are registered, and subscriptions of this process are made, as are allowed."""
    with _running(folder, 1):
        manager = _manager()
        stub, listener = Echo(), SystemAbilityListener()
        free = limits.MAX_ABILITIES - len(manager.list_system_abilities())
        for id in range(CROWD_ID, CROWD_ID + free):
            manager.add_system_ability(id, stub)
        for id in range(CROWD_ID, CROWD_ID + limits.MAX_SUBSCRIPTIONS_PER_PID):
            manager.subscribe_system_ability(id, listener)
        return _timed_get(seconds)


def _timed_get(seconds: float) -> dict[str, float]:
    def call() -> None:
        samgr.get_system_ability(FIRST_ID)  # its proxy goes with the result

    _call(samgr.get_system_ability(FIRST_ID))
    gc.collect()
    return measure.timed(call, seconds)


# --- start on demand ------------------------------------------------------------------------------------------


class _Started(SystemProcessListener):
    """Notes when processes made themselves known."""

    def __init__(self) -> None:
        super().__init__()
        self._known = threading.Condition()
        self._at: dict[str, int] = {}

    def on_system_process_started(self, name: str, pid: int) -> None:
        """Note the time."""
        now = monotonic_ns()
        with self._known:
            self._at[name] = now
            self._known.notify_all()

    def at(self, name: str) -> int:
        """Return when it was."""
        with self._known:
            if not self._known.wait_for(lambda: name in self._at, WAIT):
                raise AssertionError(f"SAMgr did not tell that {name} started")
            return self._at[name]


def on_demand(folder: Path, seconds: float, number: int) -> dict[str, float]:
    """Get an ability that does not run, and call it; ``number`` times, each another process.

    Returns:
        ``median_ns`` and ``p99_ns`` from the request to the first reply; of its parts the medians: ``spawn_ns`` until
        the new process's interpreter is ready, ``import_ns`` until SAMgr tells that the process is known,
        ``register_ns`` from there to the first reply.
    """
    with device(folder, profiles=number):
        started = _Started()
        _manager().subscribe_system_process(started)
        samples: list[tuple[int, ...]] = []
        for id in range(FIRST_ID, FIRST_ID + number):
            asked = monotonic_ns()
            found = samgr.get_system_ability(id)
            _call(found)
            replied = monotonic_ns()
            reply = bk.MessageSequence()
            found.send_request(BEGAN, bk.MessageSequence(), reply)
            began, known = reply.read_long(), started.at(f"bench-{id}")
            samples.append((replied - asked, began - asked, known - began, replied - known))
        whole, *parts = zip(*samples, strict=True)
        names = ("spawn_ns", "import_ns", "register_ns")
        return {**measure.summary(whole), **{name: median(part) for name, part in zip(names, parts, strict=True)}}


def connected(folder: Path, seconds: float, number: int) -> dict[str, float]:
    """Connect to a service ability whose process does not run, and call it; ``number`` times, each another bundle."""
    with device(folder, bundles=number):
        samples = []
        for bundle in range(number):
            before = perf_counter_ns()
            with connect(Want(_bundle(bundle), "Trivial")) as remote:
                _call(remote)
                samples.append(perf_counter_ns() - before)
        return measure.summary(samples)


ACTIONS: Mapping[str, Callable[[Path, float, int], dict[str, float]]] = {
    "get": get,
    "get-again": get_again,
    "get-crowded": get_crowded,
    "on-demand": on_demand,
    "connect": connected,
}
