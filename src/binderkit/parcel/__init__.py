"""Values to bytes and back: the data of calls and replies."""

from binderkit.parcel.parcelable import Parcelable
from binderkit.parcel.sequence import MessageSequence
from binderkit.parcel.typecode import TypeCode

__all__ = ["MessageSequence", "Parcelable", "TypeCode"]
