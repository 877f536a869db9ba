"""Secrets at rest: the key ring, what binds a ciphertext to its place, the digest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import traceback

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from common import crypto
from common.crypto import DecryptionError

KEY_A, KEY_B = b"a" * 32, b"b" * 32
NONCES = 20_000

contexts = st.text(st.characters(categories=["L", "N"], include_characters="_.-"), max_size=60)
plaintexts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def ring(*keys: tuple[str, bytes]) -> str:
    return ",".join(f"{key_id}:{base64.b64encode(key).decode()}" for key_id, key in keys)


# --- The ring -------------------------------------------------------------------------------------


def test_a_ring_keeps_its_order_and_ignores_blanks() -> None:
    text = " \n" + ring(("new", KEY_B), ("old", KEY_A)).replace(",", " , \n") + ", ,"
    assert list(crypto.parse_key_ring(text).items()) == [("new", KEY_B), ("old", KEY_A)]


@pytest.mark.parametrize("text", ["", " ", ",", " , \n,"])
def test_a_ring_needs_a_key(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="holds no key"):
        crypto.parse_key_ring(text)


@pytest.mark.parametrize(
    "part",
    [
        base64.b64encode(b"k" * 32).decode(),  # no id
        ":" + base64.b64encode(b"k" * 32).decode(),  # an empty id
        "x" * 33 + ":" + base64.b64encode(b"k" * 32).decode(),  # longer than its column
        "id:",
        "id:" + base64.b64encode(b"k" * 31).decode(),
        "id:" + base64.b64encode(b"k" * 33).decode(),
        "id:" + base64.b64encode(b"k" * 16).decode(),
        "id:" + base64.b64encode(b"k" * 32).decode()[:-1],  # without its padding
        "id:" + "k!" * 22,
        "id:" + base64.b64encode(b"k" * 32).decode() + "é",
        "id:id:" + base64.b64encode(b"k" * 32).decode(),
        "id:" + "6b" * 32,  # hex
    ],
)
def test_a_malformed_ring_is_refused_without_quoting_it(part: str) -> None:
    for text in (part, ring(("good", KEY_A)) + "," + part):
        with pytest.raises(ImproperlyConfigured, match="comma-separated list of id:key") as caught:
            crypto.parse_key_ring(text)
        message = str(caught.value)
        secret = part.rpartition(":")[2]
        assert base64.b64encode(KEY_A).decode() not in message
        assert not secret or secret not in message
        shown = "".join(traceback.format_exception(caught.value))
        assert not secret or secret not in shown


def test_two_keys_of_one_id_are_refused_by_name() -> None:
    with pytest.raises(ImproperlyConfigured, match="'k1' twice") as caught:
        crypto.parse_key_ring(ring(("k1", KEY_A), ("k1", KEY_B)))
    assert base64.b64encode(KEY_B).decode() not in str(caught.value)


def test_the_first_key_encrypts_and_all_of_them_read(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = ring(("k1", KEY_A))
    old = crypto.encrypt("secret", context="c")
    settings.ENCRYPTION_KEYS = ring(("k2", KEY_B), ("k1", KEY_A))
    new = crypto.encrypt("secret", context="c")
    assert crypto.known_key_ids() == ["k2", "k1"]
    assert (old[0], new[0]) == ("k1", "k2")
    assert crypto.decrypt(*old, context="c") == crypto.decrypt(*new, context="c") == "secret"
    settings.ENCRYPTION_KEYS = ring(("k1", KEY_A), ("k2", KEY_B))
    assert crypto.encrypt("secret", context="c")[0] == "k1"


def test_a_ring_without_any_key_is_refused(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = " , "
    with pytest.raises(ImproperlyConfigured):
        crypto.encrypt("secret", context="c")


# --- Encryption -----------------------------------------------------------------------------------


def test_a_ciphertext_is_nonce_and_aes_256_gcm_bound_to_context_and_key_id(
    settings: Settings,
) -> None:
    settings.ENCRYPTION_KEYS = ring(("k1", KEY_A))
    key_id, sealed = crypto.encrypt("secret", context="table.column.7")
    assert len(sealed) == 12 + len("secret") + 16
    opened = AESGCM(KEY_A).decrypt(sealed[:12], sealed[12:], b"table.column.7|k1")
    assert (key_id, opened) == ("k1", b"secret")


@given(plaintexts, contexts)
def test_what_is_encrypted_reads_back(plaintext: str, context: str) -> None:
    key_id, sealed = crypto.encrypt(plaintext, context=context)
    assert crypto.decrypt(key_id, sealed, context=context) == plaintext
    if len(plaintext) > 3:
        assert plaintext.encode() not in sealed


@given(plaintexts, contexts, contexts)
def test_a_moved_ciphertext_is_refused(plaintext: str, context: str, elsewhere: str) -> None:
    if context == elsewhere:
        return
    key_id, sealed = crypto.encrypt(plaintext, context=context)
    with pytest.raises(DecryptionError):
        crypto.decrypt(key_id, sealed, context=elsewhere)


@given(plaintexts, st.data())
def test_one_flipped_bit_is_refused(plaintext: str, data: st.DataObject) -> None:
    key_id, sealed = crypto.encrypt(plaintext, context="c")
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    damaged = bytearray(sealed)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        crypto.decrypt(key_id, bytes(damaged), context="c")


def test_every_single_bit_of_a_key_sized_ciphertext_counts() -> None:
    key_id, sealed = crypto.encrypt("amgai_" + "x" * 42, context="c")
    refused = 0
    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionError):
            crypto.decrypt(key_id, bytes(damaged), context="c")
        refused += 1
    assert refused == 8 * (12 + 48 + 16)


@pytest.mark.parametrize("length", [*range(29), 40])
def test_a_cut_ciphertext_is_refused(length: int) -> None:
    key_id, sealed = crypto.encrypt("secret" * 5, context="c")
    with pytest.raises(DecryptionError):
        crypto.decrypt(key_id, sealed[:length], context="c")


def test_a_ciphertext_does_not_open_under_another_id_for_the_same_key(
    settings: Settings,
) -> None:
    settings.ENCRYPTION_KEYS = ring(("k1", KEY_A), ("k2", KEY_A))
    _, sealed = crypto.encrypt("secret", context="c")
    with pytest.raises(DecryptionError):
        crypto.decrypt("k2", sealed, context="c")


def test_a_missing_encryption_key_is_named_and_no_secret_is(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = ring(("k1", KEY_A))
    key_id, sealed = crypto.encrypt("the-secret", context="c")
    settings.ENCRYPTION_KEYS = ring(("k2", KEY_B))
    with pytest.raises(DecryptionError, match="'k1' is not in ENCRYPTION_KEYS") as caught:
        crypto.decrypt(key_id, sealed, context="c")
    assert "the-secret" not in str(caught.value)


def test_a_failed_decryption_names_the_place_only() -> None:
    key_id, sealed = crypto.encrypt("the-secret", context="t.c.1")
    with pytest.raises(DecryptionError) as caught:
        crypto.decrypt(key_id, sealed, context="t.c.2")
    assert str(caught.value) == "the value of t.c.2 cannot be decrypted"
    assert caught.value.__suppress_context__


def test_no_two_nonces_are_equal() -> None:
    nonces = {crypto.encrypt("x", context="c")[1][: crypto.NONCE_BYTES] for _ in range(NONCES)}
    assert len(nonces) == NONCES
    # Each of the 96 bits is set about half the time, as in random bits (within 20 standard
    # deviations).
    for bit in range(96):
        ones = sum(nonce[bit // 8] >> bit % 8 & 1 for nonce in nonces)
        assert abs(ones - NONCES / 2) < 20 * (NONCES / 4) ** 0.5


# --- Digests --------------------------------------------------------------------------------------


def test_a_digest_is_hmac_sha_256_under_the_pepper(settings: Settings) -> None:
    settings.KEY_DIGEST_PEPPER = base64.b64encode(KEY_A).decode()
    expected = hmac.new(KEY_A, b"secret", hashlib.sha256).hexdigest()
    assert crypto.digest("secret") == expected
    assert crypto.digest("secret") != hashlib.sha256(b"secret").hexdigest()
    settings.KEY_DIGEST_PEPPER = base64.b64encode(KEY_B).decode()
    assert crypto.digest("secret") != expected


def test_a_longer_pepper_counts_to_its_last_byte(settings: Settings) -> None:
    long = os.urandom(63)
    digests = []
    for pepper in (long + b"1", long + b"2"):
        settings.KEY_DIGEST_PEPPER = base64.b64encode(pepper).decode()
        digests.append(crypto.digest("secret"))
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "pepper",
    ["", "short", base64.b64encode(b"p" * 31).decode(), "p" * 43, "p!" * 30, "é" * 60],
)
def test_a_short_or_malformed_pepper_is_refused_without_quoting_it(
    settings: Settings, pepper: str
) -> None:
    settings.KEY_DIGEST_PEPPER = pepper
    with pytest.raises(ImproperlyConfigured, match="at least 32 random bytes") as caught:
        crypto.digest("secret")
    assert not pepper or pepper not in str(caught.value)
