"""The contract IBase. Written from IBase.idl by `binderkit idl to-python`: change that file, not this one."""

from __future__ import annotations

from binderkit.interface import Int32, Interface, method


class IBase(Interface, descriptor="com.example.legacy.Base"):
    """com.example.legacy.Base."""

    @method
    def version(self) -> Int32: ...
