"""The shape of a key, compared with a second implementation, written only from the contract."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from channels import authentication

# Contract: digits 0-9A-Za-z, most significant first, padded with 0.
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MALFORMED = 100_000


def is_well_formed(key: str) -> bool:
    return authentication.has_shape(key, authentication.key_prefixes())


def crc32_bit_by_bit(data: bytes) -> int:
    """Return the CRC-32 of IEEE 802.3: reflected polynomial EDB88320, all ones in and out."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def expected_checksum(body: str) -> str:
    value = crc32_bit_by_bit(body.encode("ascii"))
    return "".join(DIGITS[value // 62**power % 62] for power in range(5, -1, -1))


def test_the_checksum_of_a_hand_computed_example() -> None:
    # CRC-32 of "123456789" is CBF43926, the check value of its definition: 3,421,780,262
    #   = 3 * 62^5 + 45 * 62^4 + 35 * 62^3 + 27 * 62^2 + 22 * 62 + 14 -> 3 j Z R M E
    assert authentication.checksum("123456789") == expected_checksum("123456789") == "3jZRME"


def test_a_small_checksum_is_padded_with_zeros() -> None:
    assert authentication.checksum("") == expected_checksum("") == "000000"


@pytest.mark.parametrize("is_test", [False, True])
def test_a_new_key_has_the_shape_of_the_contract(is_test: bool) -> None:
    prefix = "amgai_test_" if is_test else "amgai_"
    for _ in range(200):
        key = authentication.generate_key(is_test=is_test)
        tail = key.removeprefix(prefix)
        assert (len(tail), len(key)) == (42, len(prefix) + 42)
        assert set(tail) <= set(DIGITS)
        assert key[-6:] == expected_checksum(key[:-6])
        assert is_well_formed(key)


def test_new_keys_differ_and_use_the_whole_alphabet() -> None:
    made = [authentication.generate_key(is_test=False) for _ in range(5000)]
    assert len(set(made)) == len(made)
    for position in range(6, 42):
        assert {key[position] for key in made} == set(DIGITS)


def test_any_body_with_its_checksum_is_well_formed() -> None:
    chance = random.Random(1)
    for prefix in ("amgai_", "amgai_test_"):
        for _ in range(2000):
            body = prefix + "".join(chance.choices(DIGITS, k=36))
            assert is_well_formed(body + expected_checksum(body))


def test_every_single_change_of_a_character_is_noticed() -> None:
    key = authentication.generate_key(is_test=False)
    others = DIGITS + "_- é\x00/+="
    for position, present in enumerate(key):
        for other in others.replace(present, ""):
            assert not is_well_formed(key[:position] + other + key[position + 1 :])


def malformed_keys(chance: random.Random) -> Iterator[str]:
    """Yield keys that are almost valid, and some that are far from it."""
    printable = string.printable + "éß中\u2028\udc80"
    while True:
        good = authentication.generate_key(is_test=chance.random() < 0.5)
        first, second = sorted(chance.sample(range(len(good)), 2))
        yield good[:first] + chance.choice(DIGITS) + good[first:]
        yield good[:first] + good[first + 1 :]
        yield good[:second]
        yield good[:-6] + "".join(chance.choices(DIGITS, k=6))
        yield "".join(chance.choices(DIGITS, k=len(good)))
        yield "".join(chance.choices(printable, k=chance.randrange(120)))
        swapped = list(good)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        yield "".join(swapped)
        yield good.swapcase()
        yield good + chance.choice(printable)
        yield chance.choice(printable) + good
        yield "other_" + good.removeprefix("amgai_")


def test_malformed_keys_are_refused() -> None:
    source = malformed_keys(random.Random(2))
    accepted = []
    for _ in range(MALFORMED):
        key = next(source)
        if is_well_formed(key):
            accepted.append(key)
    # Some mutations change nothing, such as swapping two equal characters, so some keys stay valid.
    # The second implementation must accept these too.
    assert len(accepted) < MALFORMED // 100
    for key in accepted:
        body, tail = key[:-6], key[-6:]
        prefix = "amgai_test_" if key.startswith("amgai_test_") else "amgai_"
        assert len(key) == len(prefix) + 42
        assert tail == expected_checksum(body)


@pytest.mark.parametrize("key", ["", "amgai_", "amgai_test_", "_", "0" * 42, "0" * 48])
def test_fragments_are_refused(key: str) -> None:
    assert not is_well_formed(key)


def test_a_test_key_is_not_a_live_key_with_another_prefix() -> None:
    tail = authentication.generate_key(is_test=True).removeprefix("amgai_test_")
    assert not is_well_formed("amgai_" + tail)


def test_the_prefix_is_a_setting(settings: Settings) -> None:
    old = authentication.generate_key(is_test=False)
    settings.API_KEY_PREFIX = "acme-"
    live, test = (
        authentication.generate_key(is_test=False),
        authentication.generate_key(is_test=True),
    )
    assert live.startswith("acme-")
    assert test.startswith("acme-test_")
    assert authentication.key_prefixes() == (
        "acme-",
        "acme-test_",
    )
    assert is_well_formed(live)
    assert is_well_formed(test)
    assert not is_well_formed(old)
