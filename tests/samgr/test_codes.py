"""samgr/codes.py: the numbers fit together."""

from __future__ import annotations

from binderkit import MessageSequence, limits
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo


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
