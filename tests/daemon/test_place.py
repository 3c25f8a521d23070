"""daemon/place.py: how the daemon becomes SAMgr, finds that another one is it, and that nobody finds it any more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import binderkit as bk
from binderkit.daemon import place
from binderkit.daemon.place import DevicePlace, SocketPlace, place_of
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.driver.unix.node import Node
from binderkit.errors import NoServiceManagerError, ParamValueError, RefusedError, ServiceError
from binderkit.ipc.context import Caller

STUB = bk.RemoteObject("tests.IStub")


class FakeDevice:
    """A binder device as the kernel driver shows it; ``managers`` answer by turns, the last one stays."""

    name = "kernel"

    def __init__(self, *managers: Caller | RefusedError | None) -> None:
        self.device = SimpleNamespace(path="/dev/binder")
        self._managers = list(managers)
        self.refused = 0
        self.admission: Any = None

    def _manager(self) -> Caller | RefusedError | None:
        return self._managers.pop(0) if len(self._managers) > 1 else self._managers[0]

    def context_object(self, *, start: bool) -> Any:
        assert not start
        manager = self._manager()
        if manager is None:
            raise NoServiceManagerError("none")
        if isinstance(manager, RefusedError):
            raise manager
        return SimpleNamespace(owner=manager)

    def become_context(self, stub: bk.RemoteObject, admission: Any) -> None:
        if len(self._managers) > 1 or self._managers[0] is not None:
            self.refused += 1
            raise RefusedError("cannot become the context manager")
        self.admission = admission


def device_place(directory: Path, *managers: Caller | RefusedError | None) -> tuple[DevicePlace, FakeDevice]:
    fake = FakeDevice(*managers)
    return DevicePlace(fake, directory), fake  # type: ignore[arg-type]


def nobody(caller: Caller) -> str | None:
    return "nobody may"


def test_a_socket_is_lost_when_it_is_removed_or_replaced(runtime_dir: Path) -> None:
    node = Node(title="samgr")
    found = place_of(node, runtime_dir)
    assert isinstance(found, SocketPlace) and found.lost() is None and not found.taken()
    end = found.take(STUB, nobody)
    assert found.lost() is None and found.taken()
    (runtime_dir / "samgr.sock").rename(runtime_dir / "elsewhere")
    assert "was removed" in str(found.lost()) and not found.taken()
    (runtime_dir / "samgr.sock").touch()
    assert "belongs to somebody else" in str(found.lost())
    end()
    node.close()


def test_a_device_is_lost_with_its_directory(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    found, _ = device_place(folder, None)
    assert found.lost() is None
    folder.rename(tmp_path / "elsewhere")
    assert "was removed" in str(found.lost())


def test_a_device_without_manager_is_taken_with_its_admission(tmp_path: Path) -> None:
    found, fake = device_place(tmp_path, None)
    assert not found.taken()
    found.take(STUB, nobody)()
    assert fake.admission is nobody


def test_a_manager_that_is_going_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, fake = device_place(tmp_path, None, None, None)
    found.take(STUB, nobody)
    assert fake.refused == 2
    monkeypatch.setattr(place, "VACATED_WAIT", 0.0)
    stays, _ = device_place(tmp_path, *[None] * 1000)
    with pytest.raises(RefusedError, match="cannot become"):
        stays.take(STUB, nobody)


@pytest.mark.parametrize(
    ("manager", "told"),
    [
        (Caller(77, 5, -1), "a context manager already: process 77 of uid 5; end it, or name another device"),
        (Caller(0, -1, -1), "a context manager already: a program that is not binderkit's"),
        (RefusedError("uid 3 may not use this SAMgr"), "a context manager already: uid 3 may not use this SAMgr"),
    ],
)
def test_another_manager_is_named(tmp_path: Path, manager: Caller | RefusedError, told: str) -> None:
    found, _ = device_place(tmp_path, manager)
    assert found.taken()
    with pytest.raises(RefusedError, match=told):
        found.take(STUB, nobody)


def test_only_a_device_is_a_place_for_androids_programs(tmp_path: Path) -> None:
    found, _ = device_place(tmp_path, None)
    found.check_android(30)
    with pytest.raises(ParamValueError):
        found.check_android(-1)
    node = Node(title="samgr")
    with pytest.raises(ServiceError, match="BINDERKIT_DRIVER=kernel"):
        place_of(node, tmp_path).check_android(30)
    node.close()


def test_other_drivers_are_no_place_at_all(tmp_path: Path) -> None:
    network = LoopbackNetwork()
    with pytest.raises(bk.IpcError, match="unix or kernel"):
        place_of(network.process(), tmp_path)
    network.close()
