"""reasons.py: the numbers are OpenHarmony's."""

from __future__ import annotations

from binderkit.softbus import reasons
from binderkit.softbus.reasons import DataType, ShutdownReason, code_name


def test_shutdown_reasons_are_numbered_in_the_order_of_the_reference() -> None:
    names = (
        "unknown local peer lnn_changed conn_changed timeout send_file_err recv_file_err recv_data_err unexpected "
        "service_died lnn_offline link_down user_switch privilege block_mode"
    )
    assert [reason.name.lower() for reason in ShutdownReason] == names.split()
    assert [int(reason) for reason in ShutdownReason] == list(range(16))


def test_codes_lie_in_the_module_they_belong_to() -> None:
    def module(code: int) -> int:
        return (-code >> 16) & 0x1F

    assert {
        module(getattr(reasons, name)) for name in ("INVALID_PARAM", "PERMISSION_DENIED", "TIMEOUT", "NOT_FOUND")
    } == {10}
    assert {module(code) for code in (reasons.BIND_TIMEOUT, reasons.NAME_REPEATED, reasons.NEGOTIATE_REJECTED)} == {5}
    assert module(reasons.AUTH_NOT_TRUSTED) == 3 and module(reasons.NODE_OFFLINE) == 4


def test_every_code_has_words() -> None:
    assert code_name(reasons.PEER_SERVER_MISSING) == "nobody listens under that name on the other device"
    assert code_name(-426115071 + 999) == "SoftBus transmission error 999"
    assert code_name(-1) == "code -1"


def test_streams_are_the_types_4_to_8() -> None:
    assert [int(kind) for kind in DataType if kind.is_stream] == [4, 5, 6, 7, 8]
