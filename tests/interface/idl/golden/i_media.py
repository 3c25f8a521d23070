# Licence text of the example.
# It may be copied.

"""The contract IMedia. Written from IMedia.idl by `binderkit idl to-python`: change that file, not this one."""

from __future__ import annotations

from dataclasses import dataclass

from binderkit import IRemoteObject, MessageSequence, Parcelable
from binderkit.interface import (
    Float32,
    Int8,
    Int16,
    Int32,
    Interface,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    method,
    oneway,
    packed,
    transaction_code,
)
from binderkit.interface.codec import Char, Fd
from binderkit.interface.idl.layouts import RawData

from .callback.i_media_callback import IMediaCallback
from .i_base import IBase
from .media_types import Frame, Level, Size


class Want(Parcelable):
    """Sequenceable OHOS.AAFwk.Want. IDL does not say what it holds: write its two methods, or use a class of yours."""

    def marshalling(self, sequence: MessageSequence) -> bool:
        raise NotImplementedError("Want.marshalling is not written yet")

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        raise NotImplementedError("Want.unmarshalling is not written yet")


@packed
@dataclass
class Blob(RawData):
    """rawdata OHOS.Blob: make one by Blob.of(data)."""


class IElsewhere(Interface, descriptor="ohos.media.IElsewhere"):
    """Declared elsewhere; its methods are not known here."""


# In the IDL, without meaning here: option_stub_hooks on, callback.
class IMedia(IBase, descriptor="ohos.media.IMedia"):
    """Everything the language has.
    Second line with a "quote" and a back\\slash.
    """

    @method
    def ping(self) -> None: ...

    @method
    @oneway
    def notify(self, text: str) -> None: ...

    @method
    def basics(self, a: bool, b: Int8, c: Int16, d: Int32, e: int, f: Float32, g: float, h: Char) -> None:
        """Basic types, in order."""

    @method
    def unsigneds(self, a: UInt8, b: UInt16, c: UInt32, d: UInt64) -> None: ...

    @method
    def strings(self, a: str, b: str, c: str) -> str: ...

    @method
    def files(self, a: Fd, b: Fd) -> Fd: ...

    @method
    @transaction_code(20)
    def divide(self, dividend: Int32, divisor: Int32) -> tuple[Int32, Int32]:
        """Returns: remainder, the result."""

    @method
    def get_http_status(self, counter: int, again: bool) -> tuple[int, str, Int32]:
        """Returns: counter, text, the result."""

    # In the IDL, without meaning here: cacheable 1000, ipcincapacity 10, ipcoutcapacity 131071.
    @method
    @transaction_code(48)
    def size_of(self, frame: Frame) -> Size: ...

    # In the IDL, without meaning here: customMsgOption flags=MessageOption::TF_ASYNC | MessageOption::TF_SYNC and
    # waitTime=4, macrodef DEVICE.
    @method
    def configure(self, settings: dict[str, list[Int32]], sizes: set[Size], levels: dict[Int32, Level]) -> None: ...

    @method
    def overloaded(self, value: Int32) -> None: ...

    @method
    def overloaded_string(self, value: str) -> None: ...

    @method
    def overloaded_list_map_int_string(self) -> list[dict[Int32, str]]:
        """Returns: value."""

    @method
    def find(self, want: Want, fallback: Want | None, frames: list[Frame]) -> Frame | None: ...

    @method
    def exchange(
        self,
        callback_: IMediaCallback,
        remote: IRemoteObject,
        other: IElsewhere,
        peer: IPeer,
    ) -> IMediaCallback: ...

    @method
    def blob(self, data: Blob) -> Blob: ...

    @method
    def as_object_(self, self_: Int32, self__: Int32, lambda_: Int8) -> None:
        """Taken names."""

    @method
    def list_(self, values: list[list[Int32]]) -> None: ...

    @method
    def a_very_long_method_name(
        self,
        a_very_long_parameter_name: dict[str, list[dict[Int32, str]]],
        still_another: list[set[str]],
    ) -> tuple[dict[str, list[dict[Int32, str]]], list[set[str]], dict[str, list[dict[Int32, str]]]]:
        """Returns: another_very_long_parameter_name, still_another, the result."""

    @method
    def fits(self) -> tuple[list[UInt8], list[UInt16], list[Int32], dict[UInt64, UInt16]]:
        """Returns: first, second, x, the result."""


# At the end, because that file may need this one.
from .i_peer import IPeer  # noqa: E402
