"""samgr/codes.py: the numbers fit together."""

from __future__ import annotations

import pytest

from binderkit import MessageOption, MessageSequence, limits
from binderkit.errors import UnknownTransactionError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.service import SystemAbilityManager


def test_a_page_of_the_longest_records_fits_into_one_transaction() -> None:
    longest = AbilityInfo(
        0xFFFFFF, "n" * 128, 2**22, 2**32 - 2, True, 15, "\N{PILE OF POO}" * 128, "\N{PILE OF POO}" * 128
    )
    sequence = MessageSequence()
    for _ in range(codes.PAGE):
        longest.write(sequence)
    assert sequence.get_size() < limits.MAX_TRANSACTION - 1024


def test_numbers_of_operations_and_results_are_unique() -> None:
    operations = [value for name, value in vars(codes).items() if name.endswith("SYSTEM_ABILITY") and name[0] != "O"]
    assert len(set(operations)) == len(operations)


@pytest.mark.parametrize("code", [31, 40, 41, 42, 44])
def test_what_makes_no_sense_here_is_an_unknown_transaction(code: int) -> None:
    """31, 40: scheduling; 41, 42: memory pressure; 44: users of a phone (reference 2.2)."""
    data = MessageSequence()
    data.write_interface_token(codes.DESCRIPTOR)
    service = SystemAbilityManager()
    try:
        with pytest.raises(UnknownTransactionError, match=f"transaction {code}"):
            service.on_remote_message_request(code, data, MessageSequence(), MessageOption())
    finally:
        service.close()
