"""A process that has system ability 4700 for a test: it keeps the daemon's watcher, and says what it is told to."""

from __future__ import annotations

from binderkit.errors import IpcError, ParcelReadError
from binderkit.interface import Interface, method, proxy, raises
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.remote import Problem
from binderkit.softbus.contracts import DeviceDescription, IDeviceWatcher


class IReporter(Interface, descriptor="tests.IReporter"):
    @method
    def watcher(self) -> IRemoteObject:
        """Return the watcher this process was given."""

    @method
    def report(self, watcher: IRemoteObject, event: str, udid: str) -> None:
        """Tell a watcher of a device."""

    @method
    def insist(self, watcher: IRemoteObject, event: str, udid: str) -> int:
        """Tell it and wait for the answer, which the contract does not; return its code, 0 when it was taken."""


class IWatched(Interface, descriptor="ohos.softbus.ISoftBus"):
    """Softbus's contract up to the method that the daemon uses: the numbers of methods follow their order."""

    @method
    def own_device(self) -> DeviceDescription: ...

    @method
    @raises(Problem)
    def set_name(self, name: str) -> None: ...

    @method
    def trusted_devices(self) -> list[DeviceDescription]: ...

    @method
    @raises(Problem)
    def watch(self, watcher: IDeviceWatcher) -> None: ...


class Reporter(IWatched, IReporter):
    """The softbus, or a stranger that was given its watcher."""

    def __init__(self) -> None:
        self._watcher: IDeviceWatcher | None = None

    def own_device(self) -> DeviceDescription:
        return _device("0" * 64)

    def set_name(self, name: str) -> None:
        raise Problem(401, "this one has its name for ever")

    def trusted_devices(self) -> list[DeviceDescription]:
        return []

    def watch(self, watcher: IDeviceWatcher) -> None:
        self._watcher = watcher

    def watcher(self) -> IRemoteObject:
        assert self._watcher is not None
        return self._watcher.as_object()

    def report(self, watcher: IRemoteObject, event: str, udid: str) -> None:
        proxy(IDeviceWatcher, watcher).device_changed(event, _device(udid))

    def insist(self, watcher: IRemoteObject, event: str, udid: str) -> int:
        class Insisting(Interface, descriptor="binderkit.softbus.IDeviceWatcher"):
            @method
            def device_changed(self, event: str, device: DeviceDescription) -> None: ...

        try:
            proxy(Insisting, watcher).device_changed(event, _device(udid))
        except ParcelReadError:
            return 0  # taken: a one-way method answers nothing
        except IpcError as error:
            return error.code
        return 0


def _device(udid: str) -> DeviceDescription:
    return DeviceDescription(udid, "", "x", "x", True, False, 0)
