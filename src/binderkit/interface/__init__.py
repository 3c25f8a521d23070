"""Typed interfaces: a class with type hints is the contract of an object in another process.

The public names; docs/interfaces.md tells how they belong together.
"""

from __future__ import annotations

from binderkit.interface.calls import aio as aio
from binderkit.interface.calls import within as within
from binderkit.interface.codec import Char as Char
from binderkit.interface.codec import Fd as Fd
from binderkit.interface.codec import Float32 as Float32
from binderkit.interface.codec import Int8 as Int8
from binderkit.interface.codec import Int16 as Int16
from binderkit.interface.codec import Int32 as Int32
from binderkit.interface.codec import Int64 as Int64
from binderkit.interface.codec import OwnedFd as OwnedFd
from binderkit.interface.codec import UInt8 as UInt8
from binderkit.interface.codec import UInt16 as UInt16
from binderkit.interface.codec import UInt32 as UInt32
from binderkit.interface.codec import UInt64 as UInt64
from binderkit.interface.codec import packed as packed
from binderkit.interface.contract import Interface as Interface
from binderkit.interface.marks import handler as handler
from binderkit.interface.marks import idempotent as idempotent
from binderkit.interface.marks import method as method
from binderkit.interface.marks import oneway as oneway
from binderkit.interface.marks import raises as raises
from binderkit.interface.marks import transaction_code as transaction_code
from binderkit.interface.meta import describe as describe
from binderkit.interface.meta import interface_hash as interface_hash
from binderkit.interface.meta import interface_version as interface_version
from binderkit.interface.properties import Property as Property
from binderkit.interface.properties import Watch as Watch
from binderkit.interface.properties import get_property as get_property
from binderkit.interface.properties import set_property as set_property
from binderkit.interface.properties import watch as watch
from binderkit.interface.proxy import proxy as proxy
from binderkit.interface.stream import Stream as Stream
