"""Carrying out what the state machine wants done: launching, calling processes, telling callbacks, watching the clock.

Owns: the queue of orders of each process, the local ability managers of the processes, and the thread that waits for
the next deadline (it exists from the first deadline on).

Rules upheld: orders of one process are carried out one at a time in the order in which they were decided; nothing is
called under SAMgr's lock, nor on the thread of the request that caused it; a process that does not answer delays nobody
else's orders; a process is known before it can register: the launch and the entry of its pid are one step.

Locks: SAMgr's one lock; and one per process that is held while it is launched (taken before SAMgr's, never after).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from binderkit.errors import DeadObjectError, IpcError, ServiceError
from binderkit.interface import proxy, within
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr import codes, handover
from binderkit.samgr.lifecycle_actions import (
    Action,
    AskIdle,
    AskReferences,
    Callback,
    KillProcess,
    Loaded,
    LoadFailed,
    ProcessChanged,
    ProfilesChanged,
    RestartsEnded,
    SetActive,
    StartAbility,
    StartProcess,
    StopAbility,
    StopProcess,
)
from binderkit.samgr.load import failure, success
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.processes import process_message
from binderkit.samgr.starter import UNKNOWN_STATUS, how_it_ended
from binderkit.samgr.subscriptions import Event
from binderkit.samgr.teller import Submit, Teller, unwatch, watch
from binderkit.samgr.waiters import fail, resolve

if TYPE_CHECKING:
    from binderkit.samgr.lifecycle import Lifecycle
    from binderkit.samgr.starter import Starter
    from binderkit.samgr.table import AbilityTable

_log = logging.getLogger("binderkit.samgr")
ANSWER_WAIT: Final = 5.0
"""Seconds an ability may take to say whether it is idle; after that it is not."""
REFUSES: Final = -1


class _Local:
    """The local ability manager of a process."""

    def __init__(self, pid: int, remote: IRemoteObject, recipient: DeathRecipient | None) -> None:
        self.pid = pid
        self.remote = remote
        self.recipient = recipient
        self.manager: ILocalAbilityManager = proxy(ILocalAbilityManager, remote)


class LifecycleRunner:
    """Does what ``lifecycle`` wants.

    Args:
        lock: SAMgr's; guards ``lifecycle`` and ``table``.
        starter: launches processes; None: they are started by hand.
        submit: runs a task on another thread.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        table: AbilityTable,
        teller: Teller,
        lock: threading.Lock,
        starter: Starter | None,
        submit: Submit,
    ) -> None:
        self._lifecycle = lifecycle
        self._table = table
        self._teller = teller
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._starter = starter
        self._submit = submit
        self._launching = {process.name: threading.Lock() for process in lifecycle.processes}
        self._locals: dict[str, _Local] = {}
        self._orders: dict[str, deque[Action]] = {}
        self._busy: set[str] = set()
        self._answers: deque[Callable[[], None]] = deque()
        self.profiles_changed: Callable[[], Callable[[], None]] = lambda: lambda: None
        """Called under the lock when other profiles are in force; returns what is to be done without it."""
        self._timer: threading.Thread | None = None
        self._closed = False

    # --- taking orders ----------------------------------------------------------------------------

    def queue(self, actions: list[Action]) -> None:
        """Under the lock: take over what a method of the state machine returned."""
        for action in actions:
            if isinstance(action, (Loaded, LoadFailed)):
                self._queue_answers(action)
            elif isinstance(action, ProcessChanged):
                self._queue_change(action)
            elif isinstance(action, ProfilesChanged):
                self._answers.append(self.profiles_changed())
            elif isinstance(action, RestartsEnded):
                _log.error("process %r ended too often; it is not restarted any more", action.process)
            else:
                self._orders.setdefault(action.process, deque()).append(action)
        if self._timer is None and not self._closed and self._lifecycle.next_deadline() is not None:
            self._timer = threading.Thread(target=self._run_timer, name="binderkit-samgr-timer", daemon=True)
            self._timer.start()
        self._changed.notify()

    def flush(self) -> None:
        """Without the lock: have done what is queued."""
        with self._lock:
            answers, self._answers = self._answers, deque()
            free = [name for name in self._orders if name not in self._busy]
            self._busy.update(free)
        for answer in answers:
            answer()
        self._teller.tell()
        for name in free:
            self._submit(lambda name=name: self._carry_out_all(name))  # type: ignore[misc]

    def change(self, method: Callable[[], list[Action]]) -> None:
        """Call a method of the state machine under the lock and have done what it returns."""
        with self._lock:
            self.queue(method())
        self.flush()

    def close(self) -> None:
        """End the timer; orders that were not begun are dropped."""
        with self._lock:
            self._closed = True
            self._orders.clear()
            self._changed.notify()
            timer = self._timer
            local = list(self._locals.values())
            self._locals.clear()
        for one in local:
            unwatch(one.remote, one.recipient)
        if timer is not None and timer is not threading.current_thread():
            timer.join()

    def _queue_answers(self, action: Loaded | LoadFailed) -> None:
        if isinstance(action, LoadFailed):
            _log.warning("%s [code %d]", action.text, action.code)
        for callback in action.callbacks:
            entry = self._table.find(action.id) if isinstance(action, Loaded) else None
            if entry is not None:
                self._answer(callback, action.id, entry.remote)
            elif isinstance(action, LoadFailed):
                self._answer(callback, action.id, None, action.code, action.text)
            else:
                text = f"system ability {action.id} is gone again"
                self._answer(callback, action.id, None, codes.ABILITY_NOT_FOUND, text)

    def _answer(
        self, callback: Callback, ability: int, remote: IRemoteObject | None, code: int = 0, text: str = ""
    ) -> None:
        if isinstance(callback, asyncio.Future):
            if remote is not None:
                self._answers.append(lambda: resolve(callback, remote))
            else:
                self._answers.append(lambda: fail(callback, ServiceError(text, code=code)))
            return
        assert isinstance(callback, IRemoteObject)
        pid = callback.owner.pid if isinstance(callback, RemoteProxy) else os.getpid()
        if remote is not None:
            self._teller.queue(pid, Event(callback, codes.ON_LOAD_SUCCESS, ability, success(ability, remote)))
        else:
            self._teller.queue(pid, Event(callback, codes.ON_LOAD_FAIL, ability, failure(ability, code, text)))

    def _queue_change(self, change: ProcessChanged) -> None:
        _log.info("process %r (pid %d) %s", change.name, change.pid, change.kind.name.lower())
        for listener, pid in self._teller.subscriptions.of_processes().items():
            write = process_message(change.name, change.pid)
            self._teller.queue(pid, Event(listener, int(change.kind), 0, write))

    # --- processes --------------------------------------------------------------------------------

    def known(self, name: str) -> None:
        """Return when the process ``name`` is not just being launched: then its pid is known."""
        lock = self._launching.get(name)
        if lock is not None:
            with lock:
                return

    def add_process(self, name: str, pid: int, remote: IRemoteObject, added: Callable[[], list[Action]]) -> None:
        """Enter a process: ``added`` does so in the state machine; ``remote`` is its local ability manager.

        Raises:
            ServiceError: ``added`` refuses it, or it is dead already (1001).
        """
        recipient = watch(remote, lambda _: self.lost(name, pid))
        try:
            with self._lock:
                actions = added()
                before = self._locals.get(name)
                self._locals[name] = _Local(pid, remote, recipient)
                self.queue(actions)
        except IpcError:
            unwatch(remote, recipient)
            raise
        if before is not None:
            unwatch(before.remote, before.recipient)
        self.flush()
        if remote.is_object_dead():
            # It may have died before it was entered; its death notice found nothing then.
            self.lost(name, pid)

    def local(self, name: str) -> IRemoteObject | None:
        """Under the lock: the local ability manager of a process."""
        local = self._locals.get(name)
        return None if local is None else local.remote

    def lost(self, name: str, pid: int) -> None:
        """The connection of a process is gone."""
        self._drop_local(name, pid)
        self.change(lambda: self._lifecycle.process_lost(name, pid, time.monotonic()))

    def exited(self, name: str, pid: int, status: int) -> None:
        """A process ended; ``status`` as the supervisor tells it: exit code, or minus the signal's number."""
        self.known(name)
        self._drop_local(name, pid)
        how = how_it_ended(status)
        if self._starter is not None:
            how += f"; see its output in {self._starter.log_file(name)}"
        self.change(lambda: self._lifecycle.process_exited(name, pid, time.monotonic(), how))

    def _drop_local(self, name: str, pid: int) -> None:
        with self._lock:
            local = self._locals.get(name)
            if local is None or local.pid != pid:
                return
            del self._locals[name]
        unwatch(local.remote, local.recipient)

    # --- carrying out -----------------------------------------------------------------------------

    def _carry_out_all(self, name: str) -> None:
        while True:
            with self._lock:
                orders = self._orders.get(name)
                if not orders:
                    self._orders.pop(name, None)
                    self._busy.discard(name)
                    return
                action = orders.popleft()
            try:
                self._carry_out(action)
            except (IpcError, OSError) as error:
                _log.warning("%s failed: %s", action, error)

    def _carry_out(self, action: Action) -> None:
        match action:
            case StartProcess():
                self._launch(action)
            case StartAbility(process, ability, reason):
                self._call(process, lambda manager: manager.start_ability(ability, reason))
            case StopAbility(process, ability, reason):
                self._call(process, lambda manager: manager.stop_ability(ability, reason))
            case SetActive(process, ability, reason):
                self._call(process, lambda manager: within(ANSWER_WAIT, manager.active_ability)(ability, reason))
            case AskIdle():
                # On a thread of its own: an ability that thinks about it must not keep others of its process waiting.
                self._submit(lambda: self._ask_idle(action))
            case AskReferences():
                self._submit(lambda: self._ask_references(action))
            case StopProcess(process):
                self._end(process, None)
            case KillProcess(process, why):
                self._end(process, why)

    def _launch(self, action: StartProcess) -> None:
        profile, name = action.profile, action.process
        if self._starter is None:
            text = f"this SAMgr starts no processes; start it by hand: binderkit sa run {profile.path}"
            self.change(lambda: self._lifecycle.launch_failed(name, text, time.monotonic()))
            return
        with self._launching.setdefault(name, threading.Lock()):
            try:
                pid = self._starter.start(
                    name,
                    profile.start_command(),
                    environment={**profile.environment, **handover.handed(profile)},
                    user=profile.user,
                    limits=profile.limits,
                    permissions=profile.permissions,
                )
            except (IpcError, OSError) as error:
                text = f"its process {name!r} cannot be launched: {error.args[0] if error.args else error}"
                self.change(lambda: self._lifecycle.launch_failed(name, text, time.monotonic()))
                return
            self.change(lambda: self._lifecycle.process_launched(name, pid, time.monotonic()))

    def _call(self, name: str, call: Callable[[ILocalAbilityManager], object]) -> None:
        with self._lock:
            local = self._locals.get(name)
        if local is None:
            _log.warning("process %r is gone, it cannot be told anything", name)
            return
        try:
            call(local.manager)
        except DeadObjectError:
            self.lost(name, local.pid)

    def _ask_idle(self, action: AskIdle) -> None:
        answers: list[int] = []

        def ask(manager: ILocalAbilityManager) -> None:
            answers.append(within(ANSWER_WAIT, manager.idle_ability)(action.id, action.reason))

        try:
            self._call(action.process, ask)
        except IpcError as error:
            _log.warning("system ability %d does not say whether it is idle, so it stays: %s", action.id, error)
        delay = answers[0] if answers else REFUSES
        self.change(lambda: self._lifecycle.idle_answer(action.id, delay, time.monotonic()))

    def _ask_references(self, action: AskReferences) -> None:
        counts: list[int] = []

        def ask(manager: ILocalAbilityManager) -> None:
            counts.append(within(ANSWER_WAIT, manager.references)(action.id))

        try:
            self._call(action.process, ask)
        except IpcError as error:
            _log.warning("nobody knows who holds system ability %d, so it stays: %s", action.id, error)
        for count in counts:
            self.change(lambda count=count: self._lifecycle.references(action.id, count, time.monotonic()))  # type: ignore[misc]

    def _end(self, name: str, why: str | None) -> None:
        """Ask a process to end, or kill it if there is a reason to."""
        with self._lock:
            process = self._lifecycle.process(name)
            managed = process is not None and process.managed
            inherited = process.pid if process is not None and process.inherited else 0
        if why is not None:
            _log.warning("process %r is killed: %s", name, why)
        if self._starter is not None and managed:
            end = self._starter.stop if why is None else self._starter.kill
            end(name)
            if why is not None and inherited and not _is_there(inherited):
                # It may have ended before the supervisor watched it: nobody else would tell then.
                self.exited(name, inherited, UNKNOWN_STATUS)
            return
        # Not ours to kill: somebody runs it by hand.
        self._call(name, lambda manager: manager.stop_process())

    def _is_closed(self) -> bool:
        return self._closed

    # --- time -------------------------------------------------------------------------------------

    def _run_timer(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                deadline = self._lifecycle.next_deadline()
                self._changed.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
                if self._is_closed():
                    return
                due = self._lifecycle.tick(time.monotonic())
                if due:
                    self.queue(due)
            self.flush()


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user
    return True
