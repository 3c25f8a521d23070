"""Parcelable: what an object must offer to travel in a MessageSequence (reference 1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from binderkit.parcel.sequence import MessageSequence

__all__ = ["Parcelable"]


@runtime_checkable
class Parcelable(Protocol):
    """An object that writes itself into a sequence and fills itself from one.

    The receiver makes the object and hands it to ``read_parcelable``: no class
    is ever named on the wire. Inherit from it or just have the two methods.
    """

    def marshalling(self, sequence: MessageSequence) -> bool:
        """Write the object's fields into ``sequence``.

        Returns:
            True when everything was written. Anything else, or an exception,
            makes ``write_parcelable`` take back what was written and raise
            ParcelWriteError (1900009).
        """
        ...

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        """Read the fields from ``sequence``, in the order ``marshalling`` wrote them.

        Returns:
            True when the object is complete. Anything else, or an exception,
            makes ``read_parcelable`` put the read position back and raise
            ParcelableError (1900012).
        """
        ...
