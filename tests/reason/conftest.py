"""What the reason tests share."""

from __future__ import annotations

import pytest


def _tables() -> tuple[list[list[int]], list[list[int]]]:
    """Multiplication of the dihedral group D5, and the position permutations of Verhoeff's scheme."""
    multiply = [
        [
            (i + j) % 5 if i < 5 and j < 5 else (i + j) % 5 + 5 if i < 5 else (i - j) % 5 + 5 if j < 5 else (i - j) % 5
            for j in range(10)
        ]
        for i in range(10)
    ]
    base = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    permute = [list(range(10))]
    for _ in range(7):
        permute.append([permute[-1][base[i]] for i in range(10)])
    return multiply, permute


@pytest.fixture(scope="session")
def valid_sctid():
    """Is this a well-formed SNOMED CT concept id? 6 to 18 digits, a concept's partition (00 or 10), Verhoeff check
    digit (SNOMED International, Release File Specification 6.1 to 6.3)."""
    multiply, permute = _tables()

    def check(code: str) -> bool:
        if not (code.isdigit() and 6 <= len(code) <= 18 and code[-3:-1] in ("00", "10")):
            return False
        total = 0
        for position, digit in enumerate(reversed(code)):
            total = multiply[total][permute[position % 8][int(digit)]]
        return total == 0

    assert check("10200004")  # liver
    assert check("126851005")  # neoplasm of liver
    assert not check("10200005")
    return check
