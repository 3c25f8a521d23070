"""Who may connect to, start and stop which ability (reference 3.4). Pure.

Owns: the decision. Identity comes from the kernel and the token registry, never from what a caller says.

A process without a token (one that the supervisor did not start: a shell, a script) is an application of its own that
nothing was granted to: it may use exported abilities that need no permission. So is another device: which of its
applications asks, and what that was granted there, only that device says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from binderkit.ability import codes
from binderkit.errors import AbilityError

if TYPE_CHECKING:
    from binderkit.ability.manifest import AbilityManifest, Bundle

START_INVISIBLE_ABILITY: Final = "ohos.permission.START_INVISIBLE_ABILITY"
SERVICE: Final = "service"


@dataclass(frozen=True)
class Asking:
    """Who asks.

    Attributes:
        name: for texts. bundle: the application it belongs to, "" for none.
        native: it is a system ability's process.
        granted: whether it has a permission.
    """

    name: str
    bundle: str
    native: bool
    granted: Callable[[str], bool]


def of_device(device_id: str) -> Asking:
    """Return another device, which proved that it is ``device_id``, as somebody who asks (reference 3.5)."""
    return Asking(name=f"device {device_id[:8]}", bundle="", native=False, granted=lambda permission: False)


def check(asking: Asking, bundle: Bundle, ability: AbilityManifest) -> None:
    """Return when ``asking`` may use the ability.

    Raises:
        AbilityError: it is no service (16000002), not exported to this caller (16000004), or the caller lacks a
            permission that the ability asks for (201).
    """
    title = f"{bundle.name}/{ability.name}"
    if ability.type != SERVICE:
        raise AbilityError(
            f"{title} is of type {ability.type!r}; only abilities of type {SERVICE!r} can be connected or started",
            code=codes.WRONG_ABILITY_TYPE,
        )
    own = asking.bundle == bundle.name
    if not (ability.exported or own or asking.native or asking.granted(START_INVISIBLE_ABILITY)):
        raise AbilityError(
            f"{title} is not exported, so {asking.name} of another application may not use it; set exported = true "
            f"in the manifest of {bundle.name}, or grant the caller {START_INVISIBLE_ABILITY}",
            code=codes.NOT_VISIBLE,
        )
    if own:
        return
    missing = [permission for permission in ability.permissions if not asking.granted(permission)]
    if missing:
        raise AbilityError(
            f"{asking.name} lacks {', '.join(missing)}, needed for {title}; its manifest must ask for it and the "
            "device's permissions.toml must grant it",
            code=codes.PERMISSION_DENIED,
        )
