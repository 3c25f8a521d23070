"""systemd as what starts things: unit files for a device's daemon and for processes of system abilities.

Owns: the text of the units. Pure. ``binderkit systemd`` writes them; readiness and passed sockets are told in
driver/unix/activation.py.

    binderkit.socket            SAMgr's socket; the first client starts the daemon
    binderkit.service           the daemon
    binderkit-sa-PROCESS.service    one per profile that systemd, and not the daemon, is to start

A process that systemd started registers with SAMgr like any other; if the daemon has its profile, too, it gets the
profile's access token (units.py tells who it is). What is to be started on demand is installed at the daemon instead,
and needs no unit.

Rules upheld: every value is quoted for systemd (spaces, quotes, backslashes, % and $), and one with a line break is
refused, so a profile cannot bring in settings of its own; a unit says no more than its profile: its user, environment
and limits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from binderkit.errors import ParamValueError
from binderkit.samgr.profile import Profile, ResourceLimits

SOCKET_UNIT: Final = "binderkit.socket"
DAEMON_UNIT: Final = "binderkit.service"
MADE: Final = "# Made by 'binderkit systemd'; changes will be overwritten (use 'systemctl edit' for your own)."
END_WAIT: Final = 5
"""Seconds a process may take to end before it is killed (reference 2.5)."""
RESTARTS: Final = 4
RESTART_SPAN: Final = 20
"""At most 4 restarts within 20 s (reference 2.5)."""


def make_units(
    profiles: Iterable[Profile],
    *,
    system: bool,
    runtime_dir: Path | None = None,
    daemon_command: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the units of a device: file name -> text.

    Args:
        profiles: a unit each.
        system: for the system's manager (/etc/systemd/system) instead of the user's (~/.config/systemd/user).
        runtime_dir: the device's runtime directory; default: "binderkit" in that of the manager.
        daemon_command: what runs the daemon; default: ``python -m binderkit.daemon`` of this interpreter.
        environment: variables for all of them, e.g. where profiles are.

    Raises:
        ParamValueError: a value cannot be written into a unit, or a user's manager is to switch users (401).
    """
    directory = str(runtime_dir) if runtime_dir is not None else "%t/binderkit"
    place = directory if runtime_dir is None else _specifiers(directory)
    settings = {**(environment or {})}
    common = [f'Environment="BINDERKIT_RUNTIME_DIR={_inner(place, "the runtime directory")}"', *_variables(settings)]
    command = daemon_command or (sys.executable, "-m", "binderkit.daemon")
    units = {
        SOCKET_UNIT: _socket_unit(place),
        DAEMON_UNIT: _daemon_unit(command, common, system),
    }
    for profile in (one for one in profiles if one.abilities):
        units[unit_name(profile)] = _process_unit(profile, common, system)
    return units


def unit_name(profile: Profile) -> str:
    """Return the name of a profile's unit."""
    return f"binderkit-sa-{profile.process}.service"


def _socket_unit(place: str) -> str:
    return _unit(
        ["Description=Socket of binderkit's system ability manager"],
        (
            "Socket",
            [
                f"ListenSequentialPacket={place}/samgr.sock",
                "SocketMode=0600",
                "DirectoryMode=0700",
                "PassCredentials=yes",
            ],
        ),
        ("Install", ["WantedBy=sockets.target"]),
    )


def _daemon_unit(command: tuple[str, ...], common: list[str], system: bool) -> str:
    return _unit(
        ["Description=binderkit's system ability manager", f"Requires={SOCKET_UNIT}", f"After={SOCKET_UNIT}"],
        (
            "Service",
            [
                "Type=notify",
                f"ExecStart={_command(command)}",
                # Profiles are read again; with kill and not by our own command, so that it needs no more packages.
                'ExecReload="/bin/kill" "-HUP" "$MAINPID"',
                *common,
                "Restart=on-failure",
                f"TimeoutStopSec={2 * END_WAIT}",
                "UMask=0077",
                # Services it started outlive a crash of it, and are found again.
                "KillMode=process",
            ],
        ),
        ("Install", [f"Also={SOCKET_UNIT}", f"WantedBy={_target(system)}"]),
    )


def _process_unit(profile: Profile, common: list[str], system: bool) -> str:
    if profile.user is not None and not system:
        raise ParamValueError(
            f"the profile of {profile.process} runs as user {profile.user!r}; a user's own systemd cannot switch "
            "users: use --system, or take 'user' out of the profile"
        )
    restarts = any(ability.auto_restart for ability in profile.abilities)
    on_start = any(ability.run_on_create for ability in profile.abilities)
    names = ", ".join(ability.name or f"{ability.id:#x}" for ability in profile.abilities)
    service = [
        # Our host says when it is ready; a command of the profile's own need not know how to.
        f"Type={'exec' if profile.command else 'notify'}",
        f"ExecStart={_command(profile.start_command())}",
        *common,
        *_variables(profile.environment),
        *([] if profile.user is None else [f"User={_plain(profile.user, 'user')}"]),
        *_limits(profile.limits),
        f"Restart={'on-failure' if restarts else 'no'}",
        f"TimeoutStopSec={END_WAIT}",
        "UMask=0077",
        "StandardInput=null",
    ]
    unit = [
        f"Description={_specifiers(_plain(f'binderkit: {profile.process} ({names})', 'description'))}",
        f"Requires={SOCKET_UNIT}",
        f"After={SOCKET_UNIT} {DAEMON_UNIT}",
        f"StartLimitIntervalSec={RESTART_SPAN}",
        f"StartLimitBurst={RESTARTS + 1}",
    ]
    install = ("Install", [f"WantedBy={_target(system)}"])
    return _unit(unit, ("Service", service), *([install] if on_start else []))


def _limits(limits: ResourceLimits) -> list[str]:
    """Return the same limits that the built-in supervisor sets: systemd's names for them."""
    lines = {
        "LimitAS": None if limits.memory_mb is None else f"{limits.memory_mb}M",
        "LimitNOFILE": limits.open_files,
        "LimitNPROC": limits.processes,
        "LimitCPU": limits.cpu_seconds,
        "Nice": limits.nice,
    }
    return [f"{name}={value}" for name, value in lines.items() if value is not None]


def _target(system: bool) -> str:
    return "multi-user.target" if system else "default.target"


def _unit(unit: list[str], *sections: tuple[str, list[str]]) -> str:
    parts = [f"{MADE}\n", *(_section(name, lines) for name, lines in (("Unit", unit), *sections))]
    return "\n".join(parts)


def _section(name: str, lines: list[str]) -> str:
    return "\n".join([f"[{name}]", *lines, ""])


def _variables(environment: Mapping[str, str]) -> list[str]:
    return [f'Environment="{name}={_inner(_specifiers(value), name)}"' for name, value in environment.items()]


def _command(words: Iterable[str]) -> str:
    """Quote a command line for ExecStart=, where $ and % mean something."""
    return " ".join(f'"{_inner(_specifiers(word), "command").replace("$", "$$")}"' for word in words)


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _inner(text: str, what: str) -> str:
    """Escape what stands between double quotes."""
    return _plain(text, what).replace("\\", "\\\\").replace('"', '\\"')


def _plain(text: str, what: str) -> str:
    if not text.isprintable():
        raise ParamValueError(f"{what} {text!r} has line breaks or control characters, which a unit file cannot hold")
    return text
