"""ConnectOptions: what a client wants to be told of its connection (reference 3.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from binderkit.errors import AbilityError, ParamTypeError

if TYPE_CHECKING:
    from binderkit.ability.want import ElementName
    from binderkit.ipc.remote import IRemoteObject

_log = logging.getLogger("binderkit.ability")


class FailureCode(int):
    """The number on_failed gets (reference 3.1), and what happened in words.

    Attributes:
        text: names of the ability and of the caller, what was expected, what to do.
    """

    text: str

    def __new__(cls, code: int, text: str) -> Self:
        self = super().__new__(cls, code)
        self.text = text
        return self

    def __repr__(self) -> str:
        return f"<FailureCode {int(self)}: {self.text}>"

    def error(self) -> AbilityError:
        """Return it as an error to raise."""
        return AbilityError(self.text, code=int(self))


def _log_failure(code: FailureCode) -> None:
    _log.warning("a connection failed and nobody asked to be told: %r", code)


def _nothing(element: ElementName) -> None:
    pass


class ConnectOptions:
    """Callbacks of a connection. They run on a worker thread, one at a time for each connection.

    Args:
        on_connect: called with the ability's element name and its remote object.
        on_disconnect: called with the element name when the connection is over, because it was disconnected or because
            the service ended: once, and nothing follows it.
        on_failed: called with a FailureCode (an int) when there will be no connection; default: a warning in the log.

    Raises:
        ParamTypeError: one of them cannot be called (401).
    """

    def __init__(
        self,
        on_connect: Callable[[ElementName, IRemoteObject], object],
        on_disconnect: Callable[[ElementName], object] = _nothing,
        on_failed: Callable[[FailureCode], object] = _log_failure,
    ) -> None:
        for name, callback in (("on_connect", on_connect), ("on_disconnect", on_disconnect), ("on_failed", on_failed)):
            if not callable(callback):
                raise ParamTypeError(f"{name} of ConnectOptions is a function, got {type(callback).__name__}")
        self.on_connect = on_connect
        self.on_disconnect = on_disconnect
        self.on_failed = on_failed

    def ended(self, element: ElementName, text: str) -> None:
        """Tell that the connection is over; ``text`` says why, for those who want to know."""
        self.on_disconnect(element)
