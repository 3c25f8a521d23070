"""The public face: every name of @ohos.rpc in snake_case, and an import that costs nothing it need not."""

from __future__ import annotations

import subprocess
import sys

import pytest

import binderkit

SEQUENCE = """
create reclaim write_remote_object read_remote_object write_interface_token read_interface_token get_size get_capacity
set_size set_capacity get_writable_bytes get_readable_bytes get_read_position get_write_position rewind_read
rewind_write write_no_exception read_exception write_byte write_short write_int write_long write_float write_double
write_boolean write_char write_string write_parcelable write_byte_array write_short_array write_int_array
write_long_array write_float_array write_double_array write_boolean_array write_char_array write_string_array
write_parcelable_array write_remote_object_array read_byte read_short read_int read_long read_float read_double
read_boolean read_char read_string read_parcelable read_byte_array read_short_array read_int_array read_long_array
read_float_array read_double_array read_boolean_array read_char_array read_string_array read_parcelable_array
read_remote_object_array close_file_descriptor dup_file_descriptor contain_file_descriptors write_file_descriptor
read_file_descriptor write_ashmem read_ashmem get_raw_data_capacity write_raw_data_buffer read_raw_data_buffer
write_array_buffer read_array_buffer
"""
NAMES = {
    "MessageSequence": SEQUENCE,
    "MessageOption": "get_flags set_flags is_async set_async get_wait_time set_wait_time TF_SYNC TF_ASYNC TF_WAIT_TIME",
    "IRemoteObject": "get_local_interface send_message_request register_death_recipient unregister_death_recipient "
    "get_descriptor is_object_dead",
    "RemoteObject": "send_message_request on_remote_message_request get_calling_uid get_calling_pid "
    "modify_local_interface get_local_interface get_descriptor register_death_recipient unregister_death_recipient "
    "is_object_dead",
    "RemoteProxy": "send_message_request get_local_interface register_death_recipient unregister_death_recipient "
    "get_descriptor is_object_dead PING_TRANSACTION DUMP_TRANSACTION INTERFACE_TRANSACTION MIN_TRANSACTION_ID "
    "MAX_TRANSACTION_ID",
    "IPCSkeleton": "get_context_object get_calling_pid get_calling_uid get_calling_token_id get_calling_device_id "
    "get_local_device_id is_local_calling flush_cmd_buffer reset_calling_identity restore_calling_identity",
    "Ashmem": "create close_ashmem unmap_ashmem map_typed_ashmem map_read_write_ashmem map_readonly_ashmem "
    "set_protection_type write_data_to_ashmem read_data_from_ashmem PROT_EXEC PROT_NONE PROT_READ PROT_WRITE",
    "DeathRecipient": "on_remote_died",
    "IRemoteBroker": "as_object",
    "Parcelable": "marshalling unmarshalling",
    "TypeCode": "INT8_ARRAY UINT8_ARRAY INT16_ARRAY UINT16_ARRAY INT32_ARRAY UINT32_ARRAY FLOAT32_ARRAY FLOAT64_ARRAY "
    "BIGINT64_ARRAY BIGUINT64_ARRAY",
}


@pytest.mark.parametrize("name", binderkit.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(binderkit, name) is not None
    assert name in dir(binderkit)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_ohos_rpc(name: str) -> None:
    found = getattr(binderkit, name)
    assert [member for member in NAMES[name].split() if not hasattr(found, member)] == []


def test_request_result_has_the_fields_of_ohos_rpc() -> None:
    assert list(binderkit.RequestResult.__annotations__) == ["err_code", "code", "data", "reply"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = binderkit.Nonsense


HEAVY = {"asyncio", "ctypes", "typer", "rich", "numpy", "socket", "subprocess", "json", "multiprocessing", "ssl"}


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import binderkit; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(done.stdout.split())
    assert "binderkit" in loaded
    assert loaded & HEAVY == set()


def test_a_client_that_makes_plain_calls_never_loads_asyncio_or_ctypes() -> None:
    code = (
        "import sys, binderkit\n"
        "from binderkit import spawn, MessageSequence\n"
        "with spawn('tests.driver.unix.hostile:Service') as child:\n"
        "    child.root.ping()\n"
        "print(*sorted({'asyncio', 'ctypes', 'numpy', 'ssl'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30,
                          env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"})  # fmt: skip
    assert done.stdout.split() == []
