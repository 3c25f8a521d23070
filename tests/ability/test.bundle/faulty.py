"""Service abilities with every kind of fault."""

from __future__ import annotations

import os
import threading

import binderkit as bk
from binderkit.ability import ServiceExtensionAbility, Want


class Nothing(ServiceExtensionAbility):
    """Returns None from on_connect."""


class Wrong(ServiceExtensionAbility):
    """Returns something that is no remote object."""

    def on_connect(self, want: Want) -> int:  # type: ignore[override]
        return 5


class Raises(ServiceExtensionAbility):
    """Raises where its first Want says."""

    def on_create(self, want: Want) -> None:
        if want.parameters.get("where") == "create":
            raise ValueError("no luck in on_create")

    def on_connect(self, want: Want) -> bk.RemoteObject:
        raise ValueError("no luck in on_connect")


class Crashes(ServiceExtensionAbility):
    """Ends its process in on_create."""

    def on_create(self, want: Want) -> None:
        os._exit(7)


class NotAnAbility:
    """An entry that makes something else."""


class HangsAtCreate(ServiceExtensionAbility):
    """Never returns from on_create."""

    def on_create(self, want: Want) -> None:
        threading.Event().wait()


class HangsAtConnect(ServiceExtensionAbility):
    """Never returns from on_connect."""

    def on_connect(self, want: Want) -> None:
        threading.Event().wait()


class HangsAtRequest(ServiceExtensionAbility):
    """Never returns from on_request."""

    def on_connect(self, want: Want) -> bk.RemoteObject:
        return bk.RemoteObject("test.Silent")

    def on_request(self, want: Want, start_id: int) -> None:
        threading.Event().wait()
