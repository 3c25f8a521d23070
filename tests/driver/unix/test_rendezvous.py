"""SAMgr of a runtime directory: one SAMgr per directory, strangers stay outside, leftovers do no harm."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from binderkit.driver.unix import rendezvous
from binderkit.driver.unix.node import Node
from binderkit.errors import NoServiceManagerError, RefusedError
from binderkit.ipc.context import Caller
from tests.driver.unix.hostile import Service, add_one, until

STRANGER = 65534


def samgr() -> tuple[Node, Callable[[], None]]:
    node = Node(title="samgr")
    try:
        return node, rendezvous.serve_context(node, Service())
    except BaseException:
        node.close()
        raise


def test_a_client_finds_the_samgr_of_its_directory(runtime_dir: Path) -> None:
    node, end = samgr()
    client = Node(title="client", find_context=rendezvous.find_context)
    add_one(client.context_object(start=False))
    assert client.context_object(start=False) is client.context_object(start=False)
    assert (runtime_dir / rendezvous.SOCKET).stat().st_mode & 0o777 == 0o600
    end()
    client.close()
    node.close()
    assert not (runtime_dir / rendezvous.SOCKET).exists()


def test_one_winner(runtime_dir: Path) -> None:
    node, end = samgr()
    with pytest.raises(RefusedError, match="a SAMgr runs in"):
        samgr()
    end()
    node.close()
    again, end = samgr()
    end()
    again.close()


def test_several_processes_at_once_have_one_winner(runtime_dir: Path) -> None:
    """All children try at the same moment (a closed pipe is the starting gun) and stay until all have told."""
    gun_read, gun = os.pipe()
    over_read, over = os.pipe()
    told_read, told = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                os.close(gun)
                os.close(over)
                os.read(gun_read, 1)
                try:
                    samgr()
                    os.write(told, b"W")
                except RefusedError:
                    os.write(told, b"L")
                os.read(over_read, 1)
            finally:
                os._exit(0)
        children.append(child)
    os.close(gun)
    results = b"".join(os.read(told_read, 1) for _ in range(4))
    os.close(over)
    for child in children:
        os.waitpid(child, 0)
    for fd in (gun_read, over_read, told_read, told):
        os.close(fd)
    assert sorted(results) == sorted(b"WLLL")


def test_a_stale_socket_file_is_replaced(runtime_dir: Path) -> None:
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(os.fspath(runtime_dir / rendezvous.SOCKET))
    stale.close()  # its file stays, as after kill -9
    assert rendezvous.connect(runtime_dir) is None
    client = Node(title="client", find_context=rendezvous.find_context)
    with pytest.raises(NoServiceManagerError, match="no SAMgr runs in"):
        client.context_object(start=False)
    node, end = samgr()
    add_one(client.context_object(start=False))
    end()
    node.close()
    client.close()


def as_stranger(action: Callable[[], str]) -> str:
    """Run ``action`` in a child of another uid; return its text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            os.write(write, action().encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    text = b""
    while chunk := os.read(read, 4096):
        text += chunk
    os.close(read)
    os.waitpid(child, 0)
    return text.decode()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_another_user_cannot_enter_the_directory(runtime_dir: Path) -> None:
    node, end = samgr()
    text = as_stranger(
        lambda: repr(Node(title="stranger", find_context=rendezvous.find_context).context_object(start=False))
    )
    assert text.startswith("RefusedError")
    end()
    node.close()


@needs_root
def test_another_user_that_gets_to_the_socket_is_refused_by_its_uid(runtime_dir: Path) -> None:
    node, end = samgr()
    runtime_dir.chmod(0o711)
    (runtime_dir / rendezvous.SOCKET).chmod(0o666)

    def knock() -> str:
        sock = rendezvous.connect(runtime_dir)
        assert sock is not None
        return repr(Node(title="stranger").join(sock))

    assert f"RefusedError: uid {STRANGER} may not connect to the SAMgr of uid 0" in as_stranger(knock)
    until(lambda: node.statistics()["introductions"] == 0, "nothing is left of it")
    runtime_dir.chmod(0o700)
    client = Node(title="client", find_context=rendezvous.find_context)
    add_one(client.context_object(start=False))
    client.close()
    end()
    node.close()


def test_admission_of_our_own_user_and_root_only() -> None:
    assert rendezvous.same_user(Caller(1, os.geteuid(), 0)) is None
    assert rendezvous.same_user(Caller(1, 0, 0)) is None
    assert "may not connect" in str(rendezvous.same_user(Caller(1, STRANGER - 1, 0)))
