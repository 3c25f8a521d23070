"""Where softbus keeps its state, and what a person set: which addresses, which port, whom to look for.

Owns: the one place that reads these settings, and their meaning:

    softbus.toml (in the state directory)   variable                      meaning
                                            BINDERKIT_SOFTBUS_STATE       the state directory
    listen = ["192.168.1.5"]                BINDERKIT_SOFTBUS_LISTEN      numeric addresses; none: all of this machine
    port = 7447                             BINDERKIT_SOFTBUS_PORT        of the engine; 0 or none: a free one
    connect = ["10.0.0.2:7447"]             BINDERKIT_SOFTBUS_CONNECT     devices to look for where multicast ends
    group = "224.0.0.224:7446"              BINDERKIT_SOFTBUS_GROUP       multicast; other groups are other networks

A variable is used instead of the file's field when it is set and not empty; lists are separated by commas there.

Why the state is where it is: the key is the device. The default runtime directory may be gone after a reboot, so its
device is kept where a user's (or root's) state is; a runtime directory that somebody chose is a device of its own (a
test, a container), and keeps its state itself, or two devices would share one key.

Rules upheld: every value is checked before anything is opened, and what is wrong is said with its field or variable.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from binderkit.driver.runtime import default_runtime_dir, runtime_dir
from binderkit.errors import ParamValueError
from binderkit.softbus.zenoh_config import DEFAULT_GROUP

__all__ = ["FILE", "STATE_VARIABLE", "Settings", "load_settings", "state_directory"]

FILE: Final = "softbus.toml"
STATE_VARIABLE: Final = "BINDERKIT_SOFTBUS_STATE"
LISTEN_VARIABLE: Final = "BINDERKIT_SOFTBUS_LISTEN"
PORT_VARIABLE: Final = "BINDERKIT_SOFTBUS_PORT"
CONNECT_VARIABLE: Final = "BINDERKIT_SOFTBUS_CONNECT"
GROUP_VARIABLE: Final = "BINDERKIT_SOFTBUS_GROUP"
MOST_ADDRESSES: Final = 64
"""Entries of one list (own choice)."""
_FOLDER: Final = "softbus"
_ROOT_STATE: Final = Path("/var/lib/binderkit")
"""What systemd's StateDirectory=binderkit is for a service of the system."""
_ROOT_RUNTIME: Final = Path("/run/binderkit")
"""The runtime directory of the units that ``binderkit systemd --system`` writes."""
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_PLACE: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What a person set; everything has a default.

    Attributes:
        listen: numeric addresses to listen at; () for all of this machine, also when they change.
        port: of the engine, the same at all addresses; 0 takes free ones.
        connect: "HOST:PORT" of devices that multicast does not reach; their engines' ports.
        group: address and port of the multicast group.
    """

    listen: tuple[str, ...] = ()
    port: int = 0
    connect: tuple[str, ...] = ()
    group: str = DEFAULT_GROUP


def state_directory(runtime: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where a device's key and trust are; it need not be there yet.

    $BINDERKIT_SOFTBUS_STATE; else, for a runtime directory that is not the default one, ``softbus`` in it; else
    /var/lib/binderkit/softbus (root), $XDG_STATE_HOME/binderkit/softbus or ~/.local/state/binderkit/softbus.

    Args:
        runtime: the runtime directory; default: this process's.

    Raises:
        RefusedError: the runtime directory is unsafe (303).
    """
    named = environment.get(STATE_VARIABLE)
    if named:
        return Path(named).absolute()
    runtime = runtime or runtime_dir()
    home = _user_state(environment)
    if home is None or not _is_default(runtime, environment):
        return runtime.absolute() / _FOLDER
    return home / _FOLDER


def _is_default(runtime: Path, environment: Mapping[str, str]) -> bool:
    defaults = [default_runtime_dir(environment), *([_ROOT_RUNTIME] if os.geteuid() == 0 else [])]
    return os.path.realpath(runtime) in map(os.path.realpath, defaults)


def _user_state(environment: Mapping[str, str]) -> Path | None:
    """Return where this user's programs keep their state, None for a user without a home."""
    if os.geteuid() == 0:
        return _ROOT_STATE
    named = environment.get("XDG_STATE_HOME", "")
    if named.startswith("/"):  # relative ones are to be ignored, says the XDG specification
        return Path(named) / "binderkit"
    home = environment.get("HOME", "")
    return Path(home) / ".local/state/binderkit" if home.startswith("/") else None


def load_settings(directory: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of ``softbus.toml`` in the state directory, and of the variables, which win.

    Raises:
        ParamValueError: a variable holds something else than it should (401).
        ProfileError: so does the file (1002). ServiceError: there is a file, but not the package to check it (1001).
    """
    file = directory / FILE
    settings = Settings()
    if os.path.lexists(file):
        from binderkit.softbus.settings_file import read_settings  # needs msgspec, which few devices do

        settings = read_settings(file)

    def chosen(variable: str, value: T, check: Callable[[str], T]) -> T:
        text = environment.get(variable, "")
        if not text:
            return value
        try:
            return check(text)
        except ValueError as error:
            raise ParamValueError(f"{variable}={text!r}: {error}") from None

    return Settings(
        chosen(LISTEN_VARIABLE, settings.listen, lambda text: checked_list(text.split(","), checked_address)),
        chosen(PORT_VARIABLE, settings.port, checked_port),
        chosen(CONNECT_VARIABLE, settings.connect, lambda text: checked_list(text.split(","), checked_place)),
        chosen(GROUP_VARIABLE, settings.group, checked_group),
    )


def checked_list(words: list[str], check: Callable[[str], str]) -> tuple[str, ...]:
    """Return what ``check`` makes of each word (ValueError: one cannot be used, is there twice, or too many)."""
    if len(words) > MOST_ADDRESSES:
        raise ValueError(f"{len(words)} entries; at most {MOST_ADDRESSES} are allowed")
    found = tuple(check(word.strip()) for word in words)
    for one in found:
        if found.count(one) > 1:
            raise ValueError(f"{one!r} is there twice")
    return found


def checked_address(word: str) -> str:
    """Return a numeric address in its usual form (ValueError: it is none, or stands for several)."""
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        raise ValueError(f"{word!r} is no numeric address; for example 192.168.1.5,127.0.0.1") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{word!r} is no address of one interface; leave the setting out to listen at all of them")
    return str(address)


def checked_port(text: str | int) -> int:
    """Return a port, 0 for a free one (ValueError: none)."""
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"{text!r} is no port: use 0 (a free one) to 65535")
    port = int(text)
    if not 0 <= port < 65536:
        raise ValueError(f"{port} is no port: use 0 (a free one) to 65535")
    return port


def checked_place(word: str) -> str:
    """Return "HOST:PORT" in its usual form (ValueError: it is not that)."""
    match = _PLACE.fullmatch(word)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(f"{word!r} is not HOST:PORT; for example 10.0.0.2:7447, [fe80::1]:7447 or tv.lan:7447")
    if match["six"]:
        try:
            return f"[{ipaddress.IPv6Address(match['six'])}]:{int(match['port'])}"
        except ValueError:
            raise ValueError(f"{match['six']!r} in {word!r} is no IPv6 address") from None
    if not _HOST.fullmatch(match["host"]):
        raise ValueError(f"{match['host']!r} in {word!r} is neither an address nor a name of a host")
    return f"{match['host']}:{int(match['port'])}"


def checked_group(word: str) -> str:
    """Return a multicast group "ADDRESS:PORT" (ValueError: it is not that)."""
    match = _PLACE.fullmatch(word)
    try:
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ValueError
        address = ipaddress.ip_address(match["six"] or match["host"])
        if not address.is_multicast:
            raise ValueError
    except ValueError:
        raise ValueError(f"{word!r} is no multicast group with its port; for example {DEFAULT_GROUP}") from None
    return word
