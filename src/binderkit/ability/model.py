"""What the ability manager knows and what it does: records, states and actions. Pure.

Owns: the data of the state machine in records.py. Actions are what the machine wants done; service.py does them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from binderkit.ability.want import ElementName, Want


class ConnectionState(IntEnum):
    """States of a connection (reference 3.3)."""

    INIT = 0
    CONNECTING = 1
    CONNECTED = 2
    DISCONNECTING = 3
    DISCONNECTED = 4


class AbilityState(IntEnum):
    """States of a service ability."""

    LOADING = 0
    """its process is being started, or it is not created yet"""
    ACTIVE = 1
    TERMINATING = 2
    """on_destroy runs, or is waited for"""
    GONE = 3


class ProcessState(IntEnum):
    """States of a process of a bundle."""

    STARTING = 0
    RUNNING = 1
    STOPPING = 2


class Step(Enum):
    """What an ability can be told to do; one at a time."""

    CREATE = "on_create"
    CONNECT = "on_connect"
    DISCONNECT = "on_disconnect"
    COMMAND = "on_request"
    DESTROY = "on_destroy"


class Client(NamedTuple):
    """Who connects: with an access token that is the identity, without one the process is.

    ``device``: for which other device a process (the distributed scheduler) connects; each has limits of its own.
    """

    token: int
    uid: int
    pid: int
    device: str = ""

    def same(self, other: Client) -> bool:
        """Whether ``other`` may disconnect what this one connected (reference 3.3: by the same caller token)."""
        return self.token == other.token if self.token else self[:3] == other[:3]


class Target(NamedTuple):
    """A service ability and the process it runs in."""

    element: ElementName
    process: str


@dataclass(eq=False)
class Connection:
    """One client's connection to one ability."""

    client: Client
    callback: Hashable
    ability: Ability
    want: Want
    arrival: int
    state: ConnectionState = ConnectionState.INIT
    why: str = ""


@dataclass(eq=False)
class Command:
    """One on_request that waits for its turn."""

    want: Want
    start_id: int
    arrival: int


@dataclass(eq=False)
class Ability:
    """One service ability that lives, or is on its way to.

    Attributes:
        id: number of the record; never used twice.
        want: with which it was first asked for.
        bound: on_connect ran and on_disconnect did not yet. remote: what on_connect returned, given to every client.
        started: a start was not followed by a stop. start_id: number of the last start, 0: never started.
        step, number: what it is doing and the number of that step. deadline: when that must be over.
    """

    id: int
    element: ElementName
    process: Process
    want: Want
    deadline: float | None
    state: AbilityState = AbilityState.LOADING
    loaded: bool = False
    bound: bool = False
    remote: Any = None
    started: bool = False
    start_id: int = 0
    step: Step | None = None
    number: int = 0
    connections: list[Connection] = field(default_factory=list)
    commands: deque[Command] = field(default_factory=deque)
    starters: list[Hashable] = field(default_factory=list)

    def having(self, state: ConnectionState) -> list[Connection]:
        """Return the connections in a state, oldest first."""
        return [known for known in self.connections if known.state is state]


@dataclass(eq=False)
class Process:
    """One process of a bundle and the abilities in it; ``successors`` wait for the next process of that name."""

    name: str
    state: ProcessState = ProcessState.STARTING
    deadline: float | None = None
    why: str = ""
    abilities: list[Ability] = field(default_factory=list)
    successors: list[Ability] = field(default_factory=list)


# --- actions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StartProcess:
    """Start the process; ``element``: one of the abilities it is for."""

    process: str
    element: ElementName


@dataclass(frozen=True)
class StopProcess:
    """Ask the process to end."""

    process: str


@dataclass(frozen=True)
class KillProcess:
    """End the process at once."""

    process: str
    why: str


@dataclass(frozen=True)
class Load:
    """Have the process make an object for the ability."""

    process: str
    ability: int
    element: ElementName


@dataclass(frozen=True)
class Run:
    """Have the ability do one step."""

    process: str
    ability: int
    number: int
    step: Step
    want: Want
    start_id: int = 0


@dataclass(frozen=True)
class Connected:
    """Give the client the remote object."""

    callback: Hashable
    element: ElementName
    remote: Any


@dataclass(frozen=True)
class Failed:
    """Tell the client that it will not be connected."""

    callback: Hashable
    element: ElementName
    code: int
    text: str


@dataclass(frozen=True)
class Disconnected:
    """Tell the client that its connection is over; ``result`` 0 as asked for, TARGET_DIED otherwise."""

    callback: Hashable
    element: ElementName
    result: int
    text: str


@dataclass(frozen=True)
class StartDone:
    """Tell who started an ability that it runs (code 0), or why not."""

    starter: Hashable
    code: int
    text: str


@dataclass(frozen=True)
class Forget:
    """The ability is gone; drop what was kept for it."""

    ability: int


Action = StartProcess | StopProcess | KillProcess | Load | Run | Connected | Failed | Disconnected | StartDone | Forget
