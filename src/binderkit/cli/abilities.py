"""The commands about system abilities and their processes: list, processes, start, stop, watch.

Owns: what they print. They never start SAMgr: who looks at a system should not change it. Rule upheld: text from other
processes is shown without markup.
"""

from __future__ import annotations

import json
import queue
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from binderkit.cli.device import complete_device
from binderkit.cli.tables import print_table
from binderkit.errors import ParamError, RefusedError, ServiceError

if TYPE_CHECKING:
    from binderkit.samgr import AbilityInfo, AbilityStatus, SystemAbilityManagerClient
    from binderkit.samgr.ability import AbilityKey

Json = Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")]
STOP_WAIT: Final = 10.0
"""Seconds ``stop`` waits for the end: SAMgr kills what does not end in 5."""


def list_abilities(
    as_json: Json = False,
    other: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="NAME|UDID",
            help="Those that another device offers to others.",
            autocompletion=complete_device,
        ),
    ] = "",
) -> None:
    """List the system abilities with their states, also those that are started on demand and do not run."""
    from binderkit.cli import device, target

    if other:
        device.show_abilities(other, as_json)
        return
    manager = target.manager()
    infos = {info.id: info for info in manager.list_system_abilities()}
    statuses = _statuses(manager)
    rows = [_row(infos.get(id), statuses.get(id)) for id in sorted(infos.keys() | statuses.keys())]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(
        "id", "hex", "name", "pid", "uid", "distributed", "state", "process",
        box=None, header_style="bold", pad_edge=False,
    )  # fmt: skip
    for row in rows:
        runs = bool(row["pid"])
        table.add_row(
            str(row["id"]),
            f"{row['id']:#x}",
            escape(row["name"]) or "-",
            str(row["pid"]) if runs else "-",
            str(row["uid"]) if runs else "-",
            "yes" if row["distributed"] else "no",
            row["state"],
            escape(row["process"]) or "-",
        )
    print_table(table)


def _statuses(manager: SystemAbilityManagerClient) -> dict[int, AbilityStatus]:
    try:
        return {status.id: status for status in manager.list_ability_states()}
    except RefusedError:
        return {}  # states are for SAMgr's own user; what this user may see is listed all the same


def _row(info: AbilityInfo | None, status: AbilityStatus | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": 0,
        "name": "",
        "pid": 0,
        "uid": 0,
        "distributed": False,
        "dump_flags": 0,
        "capability": "",
        "permission": "",
    }
    if status is not None:
        row |= {"id": status.id, "name": status.name, "pid": status.pid}
    if info is not None:
        row |= asdict(info)
    row["state"] = status.state.name if status is not None else "LOADED"
    row["process"] = status.process if status is not None else ""
    row["on_demand"] = status is not None and status.on_demand
    return row


def processes(as_json: Json = False) -> None:
    """List the processes that host system abilities, those that do not run included."""
    from binderkit.cli import target

    infos = target.manager().list_system_processes()
    if as_json:
        print(json.dumps([{**asdict(info), "state": info.state.name} for info in infos], indent=2))
        return
    table = Table("name", "pid", "uid", "state", "abilities", box=None, header_style="bold", pad_edge=False)
    for info in infos:
        runs = bool(info.pid)
        table.add_row(
            escape(info.name),
            str(info.pid) if runs else "-",
            str(info.uid) if runs else "-",
            info.state.name,
            " ".join(map(str, info.abilities)) or "-",
        )
    print_table(table)


def start(
    ability: Annotated[str, typer.Argument(metavar="ID|NAME", help="Id (decimal or 0x…) or name.")],
    timeout: Annotated[float, typer.Option("--timeout", "-t", metavar="SECONDS", help="At most 12.")] = 4.0,
) -> None:
    """Have a system ability started if it does not run."""
    from binderkit.cli import target

    manager, key = target.manager(), _key(ability)
    begin = time.perf_counter()
    try:
        manager.load_system_ability(key, timeout=timeout)
    except ParamError as error:
        raise typer.BadParameter(str(error.args[0])) from error
    took = time.perf_counter() - begin
    info = manager.get_system_process_info(key)
    print(f"{ability} runs in process {info.name or '-'} (pid {info.pid}), {took * 1000:.0f} ms")


def stop(
    name: Annotated[str, typer.Argument(metavar="PROCESS|ID|NAME", help="A process, or an ability of it.")],
) -> None:
    """Stop a process of system abilities, whoever needs them; it is killed when it does not end in 5 seconds."""
    from binderkit import samgr
    from binderkit.cli import target

    manager = target.manager()
    process = name
    if name not in {info.name for info in manager.list_system_processes()}:
        process = manager.get_system_process_info(_key(name)).name
        if not process:
            raise ServiceError(f"{name} belongs to a process that SAMgr knows no name of; end that program itself")
    ended: queue.Queue[str] = queue.Queue()

    class Ends(samgr.SystemProcessListener):
        def on_system_process_stopped(self, name: str, pid: int) -> None:
            if name == process:
                ended.put(f"process {name} (pid {pid}) ended")

    listener = Ends()
    manager.subscribe_system_process(listener)
    try:
        manager.unload_processes([process])
        print(ended.get(timeout=STOP_WAIT))
    except queue.Empty:
        raise ServiceError(f"process {process} was told to end and did not within {STOP_WAIT:g} s") from None
    finally:
        manager.unsubscribe_system_process(listener)


def watch(
    abilities: Annotated[
        list[str] | None, typer.Argument(metavar="[ID|NAME]...", help="Abilities to watch besides all processes.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-c", min=0, help="End after so many events; 0: never.")] = 0,
) -> None:
    """Print what happens to processes, and to the abilities named, until Ctrl-C; goes on when SAMgr is restarted."""
    from binderkit import samgr
    from binderkit.cli import target

    target.manager()  # fails when no SAMgr runs; what follows would start one
    lines: queue.Queue[str] = queue.Queue()

    class Processes(samgr.SystemProcessListener):
        def on_system_process_started(self, name: str, pid: int) -> None:
            lines.put(f"process {name} (pid {pid}) started")

        def on_system_process_stopped(self, name: str, pid: int) -> None:
            lines.put(f"process {name} (pid {pid}) stopped")

        def on_system_process_activated(self, name: str, pid: int) -> None:
            lines.put(f"process {name} (pid {pid}) is needed again")

        def on_system_process_idled(self, name: str, pid: int) -> None:
            lines.put(f"process {name} (pid {pid}) is idle")

    class Abilities(samgr.SystemAbilityListener):
        def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
            lines.put(f"system ability {ability_id} added")

        def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
            lines.put(f"system ability {ability_id} removed")

    keys, process_listener, listener = [_key(word) for word in abilities or ()], Processes(), Abilities()
    samgr.subscribe_system_process(process_listener)
    for key in keys:
        samgr.subscribe_system_ability(key, listener)
    shown = 0
    while not count or shown < count:
        print(time.strftime("%H:%M:%S"), lines.get(), flush=True)
        shown += 1
    for key in keys:
        samgr.unsubscribe_system_ability(key, listener)
    samgr.unsubscribe_system_process(process_listener)


def _key(word: str) -> AbilityKey:
    from binderkit.samgr.report import key_of

    try:
        return key_of(word)
    except ParamError as error:
        raise typer.BadParameter(str(error.args[0])) from error
