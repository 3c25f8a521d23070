"""binderkit: call objects in other processes as if they were yours.

The public names, grouped by topic, loaded when first used so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from binderkit import errors as errors
    from binderkit import limits as limits
    from binderkit.errors import CallCancelledError as CallCancelledError
    from binderkit.errors import CallTimeoutError as CallTimeoutError
    from binderkit.errors import DeadObjectError as DeadObjectError
    from binderkit.errors import IpcError as IpcError
    from binderkit.errors import QuotaError as QuotaError
    from binderkit.errors import RefusedError as RefusedError
    from binderkit.errors import RemoteError as RemoteError
    from binderkit.errors import TooBigError as TooBigError
    from binderkit.ipc.option import CallingInfo as CallingInfo
    from binderkit.ipc.option import MessageOption as MessageOption
    from binderkit.ipc.option import RequestResult as RequestResult
    from binderkit.ipc.proxy import DeathRecipient as DeathRecipient
    from binderkit.ipc.proxy import RemoteProxy as RemoteProxy
    from binderkit.ipc.remote import IRemoteBroker as IRemoteBroker
    from binderkit.ipc.remote import IRemoteObject as IRemoteObject
    from binderkit.ipc.remote import RemoteObject as RemoteObject
    from binderkit.ipc.skeleton import IPCSkeleton as IPCSkeleton
    from binderkit.memory.ashmem import Ashmem as Ashmem
    from binderkit.parcel.parcelable import Parcelable as Parcelable
    from binderkit.parcel.sequence import MessageSequence as MessageSequence
    from binderkit.parcel.typecode import TypeCode as TypeCode
    from binderkit.process import Child as Child
    from binderkit.process import spawn as spawn

_HOMES = {
    "binderkit.errors": (
        "CallCancelledError",
        "CallTimeoutError",
        "DeadObjectError",
        "IpcError",
        "QuotaError",
        "RefusedError",
        "RemoteError",
        "TooBigError",
    ),
    "binderkit.ipc.option": ("CallingInfo", "MessageOption", "RequestResult"),
    "binderkit.ipc.proxy": ("DeathRecipient", "RemoteProxy"),
    "binderkit.ipc.remote": ("IRemoteBroker", "IRemoteObject", "RemoteObject"),
    "binderkit.ipc.skeleton": ("IPCSkeleton",),
    "binderkit.memory.ashmem": ("Ashmem",),
    "binderkit.parcel.parcelable": ("Parcelable",),
    "binderkit.parcel.sequence": ("MessageSequence",),
    "binderkit.parcel.typecode": ("TypeCode",),
    "binderkit.process": ("Child", "spawn"),
}
_MODULES = ("errors", "limits", "aio", "samgr", "ability", "interface", "testing")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(name for name in _HOME_OF if name not in _MODULES)


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name in _MODULES:
        value: Any = import_module(f"binderkit.{name}")
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        if name == "spawn" or name.startswith(("Remote", "IPC")):
            import_module("binderkit.process")  # says which driver this process uses by default
    else:
        raise AttributeError(f"module 'binderkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF, *_MODULES])
