"""What goes wrong in a handler, and codes nobody may use, as the caller sees them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import binderkit as bk
from tests.contract.messages import Call, body, message, transact
from tests.contract.service import Code
from tests.contract.world import World


def still_works(target: bk.IRemoteObject) -> bool:
    return body(transact(target, Code.ECHO, b"ok")) == b"ok"


@pytest.mark.parametrize(
    ("kind", "code", "type_name", "text"),
    [
        ("value", 4, "ValueError", "three is not four"),
        ("custom", 4, "tests.contract.service.CustomError", "made here"),
        ("nasty", 4, "tests.contract.service.NastyError", "<its text cannot be made: RuntimeError>"),
        ("coded", 777, "binderkit.errors.IpcError", "my own code"),
        ("dead", 4, "binderkit.errors.DeadObjectError", "somebody else died"),
        ("timeout", 4, "binderkit.errors.CallTimeoutError", "somebody else was slow"),
        ("long", 4, "ValueError", "x" * 4096),
    ],
)
def test_what_a_handler_raises_crosses_as_type_name_and_text(
    world: World, call: Call, kind: str, code: int, type_name: str, text: str
) -> None:
    target = world.one().root
    with pytest.raises(bk.RemoteError) as caught:
        call(target, Code.FAIL, kind)
    error = caught.value
    assert type(error) is bk.RemoteError
    assert (error.code, error.type_name, error.text, error.remote_traceback) == (code, type_name, text, "")
    assert still_works(target)


@pytest.mark.parametrize("kind", ["false", "none"])
def test_a_handler_that_does_not_return_true(world: World, call: Call, kind: str) -> None:
    target = world.one().root
    with pytest.raises(bk.RemoteError, match="returned") as caught:
        call(target, Code.FAIL, kind)
    assert (caught.value.code, caught.value.type_name) == (4, "")
    assert still_works(target)


def test_a_refusal_is_a_refusal_at_the_caller(world: World, call: Call) -> None:
    with pytest.raises(bk.RefusedError, match="not for you") as caught:
        call(world.one().root, Code.FAIL, "refused")
    assert caught.value.code == 303
    assert isinstance(caught.value, PermissionError)


def test_an_unknown_code_is_not_handled(world: World, call: Call) -> None:
    with pytest.raises(bk.RemoteError) as caught:
        call(world.one().root, 0x00FFFFFF)
    assert caught.value.code == 4


def test_a_stub_without_a_handler(world: World, call: Call) -> None:
    bare = transact(world.one().root, Code.MAKE, "bare").read_remote_object()
    with pytest.raises(bk.RemoteError, match="no on_remote_message_request") as caught:
        call(bare, 1)
    assert caught.value.code == 408
    assert bare.get_descriptor() == "bare"


def test_a_traceback_crosses_as_text_when_the_service_allows_it(world: World, call: Call) -> None:
    talkative = transact(world.one().root, Code.MAKE, "tracebacks").read_remote_object()
    with pytest.raises(bk.RemoteError, match="Remote traceback") as caught:
        call(talkative, 1)
    assert "CustomError: look at my traceback" in caught.value.remote_traceback
    assert "service.py" in caught.value.remote_traceback


def test_a_coroutine_that_raises_or_does_not_know_the_code(world: World, call: Call) -> None:
    target = transact(world.one().root, Code.MAKE, "async").read_remote_object()
    with pytest.raises(bk.RemoteError, match="in a coroutine") as caught:
        call(target, Code.FAIL, "in a coroutine")
    assert (caught.value.code, caught.value.type_name) == (4, "ValueError")
    with pytest.raises(bk.RemoteError, match="returned"):
        call(target, 12345)
    assert body(call(target, Code.ECHO, b"ok")) == b"ok"


@pytest.mark.parametrize("code", [0, -1, 0x01000000, 0x7FFFFFFF, 0x5F494C54])
def test_a_code_outside_the_range_is_not_sent(world: World, call: Call, code: int) -> None:
    with pytest.raises(bk.errors.InvalidCodeError) as caught:
        call(world.one().root, code)
    assert caught.value.code == 204


@pytest.mark.parametrize("code", ["1", 1.0, None, True])
def test_a_code_that_is_no_number_is_our_mistake(world: World, call: Call, code: object) -> None:
    with pytest.raises(TypeError):
        call(world.one().root, code)


def test_everybody_may_ping_and_ask_for_the_interface(world: World, call: Call) -> None:
    target = world.one().root
    target.ping()
    target.ping(timeout=10)
    assert call(target, bk.RemoteProxy.INTERFACE_TRANSACTION).read_string() == "binderkit.tests.IService"


def test_dump_writes_into_our_descriptor(world: World) -> None:
    target = world.one().root
    reading, writing = os.pipe()
    data = bk.MessageSequence()
    data.write_file_descriptor(writing)
    os.close(writing)
    data.write_string_array(["-a"])
    target.send_request(bk.RemoteProxy.DUMP_TRANSACTION, data, bk.MessageSequence())
    data.reclaim()
    with os.fdopen(reading) as text:
        assert "Service stub 'binderkit.tests.IService'" in text.read()


def test_sequences_that_are_none_are_refused(world: World) -> None:
    target = world.one().root
    for data, reply in ((None, bk.MessageSequence()), (message(), None)):
        with pytest.raises((TypeError, AttributeError, bk.errors.InvalidObjectError)):
            target.send_request(Code.WHO, data, reply)  # type: ignore[arg-type]
    assert still_works(target)


def test_a_reply_that_cannot_be_sent_fails_the_call(world: World, call: Call) -> None:
    first, second = world.start(2)
    transact(first.root, Code.KEEP, "dying", second.root)
    second.kill()
    with pytest.raises(bk.RemoteError) as caught:
        while True:
            call(first.root, Code.GIVE, "dying")
    assert caught.value.type_name.endswith("DeadObjectError")
    assert still_works(first.root)
    transact(first.root, Code.DROP, "dying")


def test_reads_past_the_arguments_fail_the_call_not_the_service(world: World, call: Call) -> None:
    target = world.one().root
    with pytest.raises(bk.RemoteError) as caught:
        call(target, Code.KEEP)
    assert caught.value.code == 1900010
    assert still_works(target)


def test_a_forked_child_is_refused_in_words(world: World) -> None:
    if world.name == "loopback":
        pytest.skip("a loopback network lives in one process by definition")
    script = (
        "import os, sys, binderkit as bk\n"
        "child = bk.spawn('tests.contract.service:make')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        child.root.ping()\n"
        "    except bk.errors.ForkedError as error:\n"
        "        os._exit(42 if 'forked' in str(error) else 1)\n"
        "    os._exit(2)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "child.root.ping()\n"
        "child.close()\n"
        "sys.exit(code)\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    env = {**os.environ, "PYTHONPATH": paths, "BINDERKIT_DRIVER": world.name}
    ran = subprocess.run([sys.executable, "-c", script], env=env, timeout=30)
    assert ran.returncode == 42
