"""The state machine of the ability manager: which service abilities live, who is connected, what comes next. Pure.

Owns: every rule of reference 3.3. Each method is told what happened and the time, changes the records, and
returns what is to be done, in order; service.py does it. Nothing here waits, calls or looks at a clock.

Rules upheld: on_create once; on_connect once for all clients of one stretch of connectedness, its object is given to
those that come later; on_disconnect when the last one goes; destroyed when nobody is connected and it was not
started, or was stopped; an ability does one step at a time, and every step has a time limit, so that a hung ability
ends up killed and everybody who waited for it is told; a process ends with its last ability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.ability import codes
from binderkit.ability.model import (
    Ability,
    AbilityState,
    Action,
    Client,
    Command,
    Connected,
    Connection,
    ConnectionState,
    Disconnected,
    Failed,
    Forget,
    KillProcess,
    Load,
    Process,
    ProcessState,
    Run,
    StartDone,
    StartProcess,
    Step,
    StopProcess,
    Target,
)
from binderkit.errors import AbilityError

if TYPE_CHECKING:
    from binderkit.ability.want import ElementName, Want

_TICKS = {
    Step.CREATE: codes.LOAD_TICKS,
    Step.CONNECT: codes.CONNECT_TICKS,
    Step.DISCONNECT: codes.DISCONNECT_TICKS,
    Step.COMMAND: codes.COMMAND_TICKS,
    Step.DESTROY: codes.DESTROY_TICKS,
}


class Records:
    """The records of one ability manager.

    Args:
        unit: seconds of one tick of the time limits (reference 3.3 has 1000 ms).
    """

    def __init__(self, unit: float = 1.0) -> None:
        self._unit = unit
        self._ids = count(1)
        self._numbers = count(1)
        self._arrivals = count(1)
        self._by_element: dict[ElementName, Ability] = {}
        self._by_id: dict[int, Ability] = {}
        self._by_callback: dict[Hashable, Connection] = {}
        self._processes: dict[str, Process] = {}
        self._per_client: Counter[Client] = Counter()

    # --- what clients ask for --------------------------------------------------------------------

    def connect(self, now: float, client: Client, target: Target, want: Want, callback: Hashable) -> list[Action]:
        """Connect ``callback`` to an ability, which is loaded if it is not there.

        Raises:
            AbilityError: this callback is connected already, or the client has too many connections (16000050).
        """
        if callback in self._by_callback:
            raise AbilityError("this callback object is in use for a connection; make a new one for each connection")
        if self._per_client[client] >= limits.MAX_CONNECTIONS_PER_CLIENT:
            raise AbilityError(
                f"process {client.pid} has {limits.MAX_CONNECTIONS_PER_CLIENT} ability connections, which is the "
                "limit; disconnect those that are not needed"
            )
        actions: list[Action] = []
        ability = self._wanted(now, target, want, actions)
        connection = Connection(client, callback, ability, want, next(self._arrivals))
        ability.connections.append(connection)
        self._by_callback[callback] = connection
        self._per_client[client] += 1
        connection.state = ConnectionState.CONNECTING
        if ability.remote is not None and ability.step is not Step.DISCONNECT:
            self._connected(connection, actions)
        self._go_on(now, ability, actions)
        return actions

    def disconnect(self, now: float, client: Client, callback: Hashable) -> list[Action]:
        """End the connection of ``callback``.

        Raises:
            AbilityError: not this client's connection, or it is not connected (16000050).
        """
        connection = self._by_callback.get(callback)
        if connection is None or not connection.client.same(client):
            raise AbilityError("CONNECTION_NOT_EXIST: this caller has no such connection; it ended, or never was")
        if connection.state is not ConnectionState.CONNECTED:
            raise AbilityError(
                f"INVALID_CONNECTION_STATE: the connection to {title(connection.ability.element)} is "
                f"{connection.state.name}; only a CONNECTED one can be disconnected"
            )
        actions: list[Action] = []
        connection.state = ConnectionState.DISCONNECTING
        self._go_on(now, connection.ability, actions)
        return actions

    def start(self, now: float, target: Target, want: Want, starter: Hashable) -> list[Action]:
        """Start an ability; ``starter`` is told with StartDone when it is created, or that it cannot be.

        Raises:
            AbilityError: too many starts of this ability wait (16000050).
        """
        actions: list[Action] = []
        ability = self._wanted(now, target, want, actions)
        if len(ability.commands) >= limits.MAX_PENDING_COMMANDS:
            raise AbilityError(
                f"{title(target.element)} has {limits.MAX_PENDING_COMMANDS} starts to handle, which is the limit; "
                "try again when its on_request came along"
            )
        ability.started = True
        ability.start_id += 1
        ability.commands.append(Command(want, ability.start_id, next(self._arrivals)))
        if ability.state is AbilityState.ACTIVE:
            actions.append(StartDone(starter, codes.OK, ""))
        else:
            ability.starters.append(starter)
        self._go_on(now, ability, actions)
        return actions

    def stop(self, now: float, element: ElementName) -> list[Action]:
        """Take all starts of an ability back; it ends now, or with its last connection. Nothing if it does not run."""
        actions: list[Action] = []
        ability = self._by_element.get(element)
        if ability is not None:
            ability.started = False
            ability.start_id = 0
            ability.commands.clear()
            self._tell_starters(ability, codes.INTERNAL, f"{title(element)} was stopped before it ran", actions)
            self._go_on(now, ability, actions)
        return actions

    def client_died(self, now: float, callback: Hashable) -> list[Action]:
        """Take out the connection of a callback whose process ended."""
        actions: list[Action] = []
        connection = self._by_callback.get(callback)
        if connection is not None:
            self._remove(connection)
            self._go_on(now, connection.ability, actions)
        return actions

    # --- what processes report -------------------------------------------------------------------

    def attached(self, now: float, name: str) -> list[Action]:
        """A process that was started is there and can be given its abilities."""
        process = self._processes.get(name)
        if process is None or process.state is not ProcessState.STARTING:
            return []
        process.state = ProcessState.RUNNING
        return [Load(name, known.id, known.element) for known in process.abilities]

    def loaded(self, now: float, ability_id: int) -> list[Action]:
        """The process made an object for the ability; it can be told what to do."""
        actions: list[Action] = []
        ability = self._by_id.get(ability_id)
        if ability is None or ability.loaded:
            return actions
        ability.loaded = True
        limit = ability.deadline
        self._run(now, ability, Step.CREATE, ability.want, actions)
        ability.deadline = limit  # of loading: it covers on_create, too, and began when the ability was asked for
        return actions

    def done(self, now: float, ability_id: int, number: int, remote: Any, error: str) -> list[Action]:
        """A step ended.

        Args:
            number: the step's; an answer to a step that is over already (its time limit passed) changes nothing.
            remote: what on_connect returned.
            error: what it raised, "" for nothing.
        """
        actions: list[Action] = []
        ability = self._by_id.get(ability_id)
        if ability is None or ability.step is None or ability.number != number:
            return actions
        step, ability.step, ability.deadline = ability.step, None, None
        if step is Step.CREATE:
            self._created(now, ability, error, actions)
        elif step is Step.CONNECT:
            self._bound(ability, remote, error, actions)
        elif step is Step.DISCONNECT:
            self._unbound(ability, actions)
        elif step is Step.DESTROY:
            self._gone(now, ability, actions)
            return actions
        self._go_on(now, ability, actions)
        return actions

    def end_ability(self, now: float, ability_id: int, why: str) -> list[Action]:
        """End an ability whoever is connected: it asked for it (terminate_self), or cannot be reached."""
        actions: list[Action] = []
        ability = self._by_id.get(ability_id)
        if ability is not None and ability.state is not AbilityState.TERMINATING:
            self._terminate(now, ability, why, actions)
        return actions

    def end_process(self, now: float, name: str, why: str) -> list[Action]:
        """Kill a process that does not answer; its end is told by process_exited."""
        actions: list[Action] = []
        process = self._processes.get(name)
        if process is not None:
            self._kill(process, why, actions)
        return actions

    def process_exited(self, now: float, name: str, text: str) -> list[Action]:
        """A process ended, or could not be started (``text`` says which and why); everybody concerned is told."""
        actions: list[Action] = []
        process = self._processes.pop(name, None)
        if process is None:
            return actions
        for ability in list(process.abilities):
            self._lost(ability, process.why or text, actions)
        if process.successors:
            successor = Process(name, abilities=process.successors)
            self._processes[name] = successor
            for ability in successor.abilities:
                ability.process = successor
                ability.deadline = now + codes.LOAD_TICKS * self._unit
            actions.append(StartProcess(name, successor.abilities[0].element))
        return actions

    # --- time ------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when ``tick`` has something to do, None: never."""
        return min((known.deadline for known in self._timed() if known.deadline is not None), default=None)

    def tick(self, now: float) -> list[Action]:
        """Do what is due: end steps and processes whose time limit passed."""
        actions: list[Action] = []
        for known in [known for known in self._timed() if known.deadline is not None and known.deadline <= now]:
            if isinstance(known, Process):
                known.deadline = None
                self._kill(known, f"process {known.name} did not end in time after SIGTERM", actions)
            elif known.deadline is not None:  # not changed by what was due before it
                self._overdue(now, known, actions)
        return actions

    def _timed(self) -> Iterable[Ability | Process]:
        return [*self._by_id.values(), *self._processes.values()]

    def _overdue(self, now: float, ability: Ability, actions: list[Action]) -> None:
        step, ability.step, ability.deadline = ability.step, None, None
        name = title(ability.element)
        if step is Step.DISCONNECT:
            self._unbound(ability, actions)
            self._go_on(now, ability, actions)
            return
        if step is Step.DESTROY:
            self._kill(ability.process, f"on_destroy of {name} did not return in time", actions)
            return
        if not ability.loaded:
            why = f"process {ability.process.name} of {name} did not come up within {self._limit(Step.CREATE)}"
            self._terminate(now, ability, f"{why}; see its log", actions)
            self._kill(ability.process, why, actions)
            return
        assert step is not None  # an ability with a deadline loads or does a step
        why = f"{step.value} of {name} did not return within {self._limit(step)}; the ability is ended"
        self._terminate(now, ability, why, actions)

    def _limit(self, step: Step) -> str:
        return f"{_TICKS[step] * self._unit:g} s"

    # --- what is known, for reports --------------------------------------------------------------

    def abilities(self) -> list[Ability]:
        """Return all records, oldest first."""
        return list(self._by_id.values())

    def find(self, element: ElementName) -> Ability | None:
        """Return the record of an ability that lives or is on its way to."""
        return self._by_element.get(element)

    def has(self, callback: Hashable) -> bool:
        """Whether a connection of this callback exists."""
        return callback in self._by_callback

    def process_of(self, ability_id: int) -> str | None:
        """Return the name of the process an ability is in, None when there is no such record."""
        ability = self._by_id.get(ability_id)
        return None if ability is None else ability.process.name

    def __len__(self) -> int:
        """How many records there are, of every kind: 0 when nothing is left."""
        return len(self._by_id) + len(self._by_callback) + len(self._processes) + self._per_client.total()

    # --- steps -----------------------------------------------------------------------------------

    def _wanted(self, now: float, target: Target, want: Want, actions: list[Action]) -> Ability:
        """Return the ability's record; make it, and have its process started, if it is not there."""
        known = self._by_element.get(target.element)
        if known is not None:
            return known
        process = self._processes.get(target.process)
        fresh = process is None
        if process is None:
            process = self._processes[target.process] = Process(target.process)
        ability = Ability(next(self._ids), target.element, process, want, now + codes.LOAD_TICKS * self._unit)
        self._by_element[target.element] = ability
        self._by_id[ability.id] = ability
        if process.state is ProcessState.STOPPING:
            process.successors.append(ability)
            return ability
        process.abilities.append(ability)
        if fresh:
            actions.append(StartProcess(process.name, target.element))
        elif process.state is ProcessState.RUNNING:
            actions.append(Load(process.name, ability.id, ability.element))
        return ability

    def _go_on(self, now: float, ability: Ability, actions: list[Action]) -> None:
        """Give an ability its next step if it has none: the oldest of what waits, or its end."""
        if ability.state is AbilityState.LOADING:
            if not ability.connections and not ability.started and not ability.loaded:
                self._terminate(now, ability, "nobody waits for it any more", actions)
            return
        if ability.state is not AbilityState.ACTIVE:
            return
        waiting = ability.having(ConnectionState.CONNECTING)
        connected = ability.having(ConnectionState.CONNECTED)
        if connected:
            for leaving in ability.having(ConnectionState.DISCONNECTING):
                self._disconnected(leaving, codes.OK, "", actions)
        if ability.step is not None:
            return
        if ability.bound and not connected:
            ability.remote = None
            self._run(now, ability, Step.DISCONNECT, ability.want, actions)
        elif waiting and not (ability.commands and ability.commands[0].arrival < waiting[0].arrival):
            self._run(now, ability, Step.CONNECT, waiting[0].want, actions)
        elif ability.commands:
            command = ability.commands.popleft()
            self._run(now, ability, Step.COMMAND, command.want, actions, command.start_id)
        elif not ability.started and not ability.connections:
            self._terminate(now, ability, "", actions)

    def _run(
        self, now: float, ability: Ability, step: Step, want: Want, actions: list[Action], start_id: int = 0
    ) -> None:
        ability.step = step
        ability.number = next(self._numbers)
        ability.deadline = now + _TICKS[step] * self._unit
        actions.append(Run(ability.process.name, ability.id, ability.number, step, want, start_id))

    def _created(self, now: float, ability: Ability, error: str, actions: list[Action]) -> None:
        if error:
            self._refuse_all(ability, f"{title(ability.element)} could not be created: {error}", actions)
            self._gone(now, ability, actions)
            return
        ability.state = AbilityState.ACTIVE
        self._tell_starters(ability, codes.OK, "", actions)

    def _bound(self, ability: Ability, remote: Any, error: str, actions: list[Action]) -> None:
        waiting = ability.having(ConnectionState.CONNECTING)
        if error:
            text = f"on_connect of {title(ability.element)} failed: {error}"
            for connection in waiting:
                self._failed(connection, text, actions)
            return
        ability.bound = True
        ability.remote = remote
        for connection in waiting:
            if remote is None:
                connection.state = ConnectionState.DISCONNECTING
                connection.why = f"on_connect of {title(ability.element)} returned None: it offers no object"
            else:
                self._connected(connection, actions)

    def _unbound(self, ability: Ability, actions: list[Action]) -> None:
        ability.bound = False
        for connection in ability.having(ConnectionState.DISCONNECTING):
            self._disconnected(connection, codes.OK, "", actions)

    def _terminate(self, now: float, ability: Ability, why: str, actions: list[Action]) -> None:
        """Begin the end of an ability; who is still connected or waits is told."""
        self._refuse_all(ability, why, actions)
        ability.state = AbilityState.TERMINATING
        ability.remote = None
        self._unlist(ability)
        if ability.loaded:
            self._run(now, ability, Step.DESTROY, ability.want, actions)
        else:
            self._gone(now, ability, actions)

    def _lost(self, ability: Ability, why: str, actions: list[Action]) -> None:
        """The process of an ability is gone."""
        self._refuse_all(ability, why, actions)
        self._forget(ability, actions)

    def _gone(self, now: float, ability: Ability, actions: list[Action]) -> None:
        """An ability is destroyed, or never was created; its process ends with the last one."""
        self._forget(ability, actions)
        process = ability.process
        if process.abilities or process.state is ProcessState.STOPPING:
            return
        process.state = ProcessState.STOPPING
        process.deadline = now + codes.STOP_TICKS * self._unit
        actions.append(StopProcess(process.name))

    def _kill(self, process: Process, why: str, actions: list[Action]) -> None:
        process.state = ProcessState.STOPPING
        process.deadline = None
        process.why = why
        actions.append(KillProcess(process.name, why))

    def _forget(self, ability: Ability, actions: list[Action]) -> None:
        ability.state = AbilityState.GONE
        ability.step = ability.deadline = None
        self._unlist(ability)
        self._by_id.pop(ability.id, None)
        for abilities in (ability.process.abilities, ability.process.successors):
            if ability in abilities:
                abilities.remove(ability)
        actions.append(Forget(ability.id))

    def _unlist(self, ability: Ability) -> None:
        if self._by_element.get(ability.element) is ability:
            del self._by_element[ability.element]

    # --- telling clients -------------------------------------------------------------------------

    def _refuse_all(self, ability: Ability, why: str, actions: list[Action]) -> None:
        """Tell everybody who has to do with an ability that it ended, or will not be."""
        for connection in list(ability.connections):
            if connection.state is ConnectionState.CONNECTING:
                self._failed(connection, why, actions)
            else:
                asked = connection.state is ConnectionState.DISCONNECTING
                self._disconnected(connection, codes.OK if asked else codes.TARGET_DIED, why, actions)
        self._tell_starters(ability, codes.INTERNAL, why, actions)

    def _tell_starters(self, ability: Ability, code: int, text: str, actions: list[Action]) -> None:
        actions += [StartDone(starter, code, text) for starter in ability.starters]
        ability.starters.clear()

    def _connected(self, connection: Connection, actions: list[Action]) -> None:
        connection.state = ConnectionState.CONNECTED
        actions.append(Connected(connection.callback, connection.ability.element, connection.ability.remote))

    def _failed(self, connection: Connection, text: str, actions: list[Action]) -> None:
        self._remove(connection)
        actions.append(Failed(connection.callback, connection.ability.element, codes.INTERNAL, text))

    def _disconnected(self, connection: Connection, result: int, text: str, actions: list[Action]) -> None:
        self._remove(connection)
        actions.append(Disconnected(connection.callback, connection.ability.element, result, text or connection.why))

    def _remove(self, connection: Connection) -> None:
        connection.state = ConnectionState.DISCONNECTED
        connection.ability.connections.remove(connection)
        del self._by_callback[connection.callback]
        self._per_client[connection.client] -= 1
        if not self._per_client[connection.client]:
            del self._per_client[connection.client]


def title(element: ElementName) -> str:
    """Return an ability's name for texts: bundle/ability."""
    return f"{element.bundle_name}/{element.ability_name}"
