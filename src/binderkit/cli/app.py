"""The commands of ``binderkit``.

Owns: names, options, help and layout of the commands; what they do stands in
target.py, abilities.py, device.py, values.py, contracts.py, idl.py, samgr/ and demo/. Errors are raised; main.py shows
them.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import binderkit
from binderkit.cli import abilities, contracts, device, idl, logs, profiles, sa
from binderkit.errors import ParamError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence

app = typer.Typer(
    name="binderkit",
    help="Look at, call and serve objects of other processes.\n\nA system ability is named by its id "
    "(decimal or 0x…), by its name, or by 0 for SAMgr itself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(contracts.interface_commands, name="interface")
app.add_typer(idl.idl_commands, name="idl")
app.add_typer(profiles.profile_commands, name="profiles")
app.add_typer(profiles.bundle_commands, name="bundles")
app.command(epilog="Example: binderkit systemd -o ~/.config/systemd/user")(profiles.systemd)
app.add_typer(sa.sa_commands, name="sa")
app.add_typer(device.device_commands, name="device")
app.command(epilog="Examples: binderkit logs · binderkit logs photo-service -n 20 -f")(logs.logs)
app.command("list", epilog="Examples: binderkit list --json | jq '.[].name' · binderkit list --device kitchen")(
    abilities.list_abilities
)
app.command(epilog="Example: binderkit processes")(abilities.processes)
app.command(epilog="Examples: binderkit start com.example.photos · binderkit start 0x1000 -t 12")(abilities.start)
app.command(epilog="Examples: binderkit stop photo-service · binderkit stop com.example.photos")(abilities.stop)
app.command(epilog="Examples: binderkit watch · binderkit watch com.example.photos 4700")(abilities.watch)
_ANY_WORDS = {"ignore_unknown_options": True}
"""For commands whose arguments may start with a dash, e.g. negative numbers."""


@dataclass
class Settings:
    """What the options before the command say."""

    debug: bool = False


settings = Settings()

Target = Annotated[
    str,
    typer.Argument(
        metavar="ID|NAME",
        help="Id (decimal or 0x…) or name; 0 is SAMgr itself.",
        autocompletion=contracts.complete_ability,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", "-t", metavar="SECONDS", help="How long to wait for the answer.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and log in detail.")] = False,
) -> None:
    """Take the options before the command."""
    settings.debug = debug
    if debug:
        logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, force=True)


@app.command()
def version() -> None:
    """Print the version of binderkit and of Python."""
    print(f"binderkit {binderkit.__version__}, Python {sys.version.split()[0]}")


@app.command(epilog="Example: binderkit samgr --policy /etc/binderkit/policy.toml")
def samgr(
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="Who may do what (TOML). Default: policy.toml in the runtime directory."
        ),
    ] = None,
    android: Annotated[
        int | None,
        typer.Option(
            "--android",
            metavar="LEVEL",
            help="On a binder device: answer Android's programs, too, as this API level (30: Android 11) has it. "
            "Default: 'android' in the policy, else not.",
        ),
    ] = None,
) -> None:
    """Run SAMgr, the registry of services, until Ctrl-C or SIGTERM.

    Its runtime directory is $BINDERKIT_RUNTIME_DIR, else $XDG_RUNTIME_DIR/binderkit, else /tmp/binderkit-UID.
    Programs start one on their own when they need it, unless BINDERKIT_NO_AUTOSTART is set.
    With BINDERKIT_DRIVER=kernel it is the context manager of the binder device $BINDERKIT_DEVICE, else of
    /dev/binderfs/binder or /dev/binder.
    """
    from binderkit.daemon.__main__ import run

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(policy, android=android)


@app.command(epilog="Examples: binderkit ping com.example.photos -c 10 · binderkit ping 0x1000")
def ping(
    ability: Target,
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="How many pings.")] = 4,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.0, help="Seconds between two of them.")] = 0.0,
    timeout: Timeout = 5.0,
) -> None:
    """Ask an object whether it is alive, and measure how long the answer takes."""
    from binderkit.cli import target

    remote = _found(ability)
    times = []
    for number in range(1, count + 1):
        if number > 1 and interval:
            time.sleep(interval)
        times.append(target.ping(remote, timeout) * 1e6)
        print(f"answer {number} from {ability}: {times[-1]:.0f} µs")
    times.sort()
    print(
        f"{count} pings, all answered: min {times[0]:.0f} / median {times[count // 2]:.0f} / "
        f"p99 {times[min(count - 1, count * 99 // 100)]:.0f} / max {times[-1]:.0f} µs"
    )


@app.command(
    context_settings=_ANY_WORDS,
    epilog="Examples: binderkit call com.example.photos thumbnail image=@in.jpg width=80 · "
    "binderkit call com.example.calc 1 i32 20 i32 22 --reply i32 · "
    'binderkit call 4700 3 s16 "some text" fd /etc/hostname --reply "bool s16"',
)
def call(
    ability: Target,
    code: Annotated[
        str,
        typer.Argument(metavar="METHOD|CODE", help="Name of a method or property, or transaction code 1 … 0xFFFFFF."),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE|TYPE VALUE",
            help="For a method: JSON or text; bytes as base64:…, hex:… or @FILE. "
            "For a code: i32 i64 f32 f64 bool s16 (text) fd (a path to open).",
        ),
    ] = None,
    reply_types: Annotated[
        str, typer.Option("--reply", metavar='"TYPE …"', help='Types of the reply, e.g. "i32 s16"; also obj.')
    ] = "",
    token: Annotated[
        bool, typer.Option("--token", help="Write the interface token (the object's descriptor) first.")
    ] = False,
    one_way: Annotated[bool, typer.Option("--one-way", help="Do not wait for an answer.")] = False,
    timeout: Timeout = 8.0,
) -> None:
    """Call a method by its name, as the object itself describes it; the result is shown as JSON.

    Or by its code, for an object that does not: values to send as pairs of type and value, the reply is shown as a
    hexdump. --reply, --token and --one-way are for that.
    """
    from binderkit.cli import values

    number = _number(code)
    remote = _found(ability)
    if number is None:
        if reply_types or token or one_way:
            raise typer.BadParameter(
                "--reply, --token and --one-way go with a transaction code, not with a method's name"
            )
        with _Usage():
            contracts.call_by_name(remote, code, arguments or [], timeout)
        return
    with MessageSequence() as data, MessageSequence() as reply:
        if token:
            data.write_interface_token(remote.get_descriptor())
        with _Usage():
            values.write_values(data, arguments or [])
        flags = MessageOption.TF_ASYNC if one_way else MessageOption.TF_SYNC
        start = time.perf_counter()
        remote.send_request(number, data, reply, MessageOption(flags, timeout=timeout))
        took = (time.perf_counter() - start) * 1e6
        if one_way:
            print("sent one-way; there is no reply")
            return
        body = bytes(reply)
        print(f"reply: {len(body)} bytes in {took:.0f} µs")
        for line in values.hexdump(body):
            print(line)
        with _Usage():
            for kind, text in values.read_values(reply, reply_types.replace(",", " ").split()):
                print(f"{kind} {text}")


@app.command(
    context_settings=_ANY_WORDS, epilog="Examples: binderkit dump 0 · binderkit dump 0 -l · binderkit dump 0 -h"
)
def dump(
    ability: Target,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARG]...", help="Handed to the object.")] = None,
    timeout: Timeout = 8.0,
) -> None:
    """Print what an object says about its own state."""
    from binderkit.cli import target

    sys.stdout.write(target.dump(_found(ability), arguments or [], timeout).decode("utf-8", "replace"))


@app.command(epilog="Examples: binderkit show com.example.photos · binderkit show 4700 --json")
def show(
    ability: Target,
    as_json: Annotated[bool, typer.Option("--json", help="Print the description itself instead of Python.")] = False,
    timeout: Timeout = 8.0,
) -> None:
    """Print an object's contract, as it describes it itself: methods, types, properties."""
    contracts.show(_found(ability), as_json=as_json, timeout=timeout)


@app.command(epilog="Examples: binderkit demo · binderkit demo --devices 2")
def demo(
    devices: Annotated[
        int, typer.Option("--devices", min=1, max=2, help="2: two devices are paired and call each other.")
    ] = 1,
) -> None:
    """Show everything at work: real processes, shared memory, callbacks, a kill -9, and going on."""
    if devices == 2:
        from binderkit.cli.demo.two_devices import main
    else:
        from binderkit.cli.demo.run import main
    raise typer.Exit(main())


class _Usage:
    """Turns an argument that cannot be used into a usage error (exit code 2)."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ParamError):
            raise typer.BadParameter(str(error.args[0])) from error


def _found(word: str) -> IRemoteObject:
    from binderkit.cli import target

    with _Usage():
        return target.find(word)


def _number(code: str) -> int | None:
    """Return a transaction code, None for what is a name."""
    try:
        return int(code, 0)
    except ValueError:
        return None
