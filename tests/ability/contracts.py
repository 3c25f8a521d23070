"""The contract that the service abilities of the tests offer."""

from __future__ import annotations

from binderkit.interface import Interface, method


class IRecorder(Interface, descriptor="test.IRecorder"):
    """Tells what happened to its ability."""

    @method
    def events(self) -> list[str]: ...

    @method
    def pid(self) -> int: ...

    @method
    def terminate(self) -> None: ...

    @method
    def connect(self, bundle: str, ability: str) -> str: ...
