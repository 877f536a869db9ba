"""Replaces each redemption code's plain text with a digest, a ciphertext, and its last letters.

The formats are those of common/crypto.py and channels/sealing.py at this time.
"""

import base64
import hmac
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.management.base import CommandError
from django.db import migrations

CHECK = b"gateway check value"


def read_ring():
    pairs = (part.strip().partition(":") for part in settings.ENCRYPTION_KEYS.split(","))
    return {key_id: base64.b64decode(key) for key_id, _, key in pairs if key_id}


def associated(row):
    context = f"billing_redemptioncode.code_ciphertext.{row.pk}"
    return f"{context}|{row.encryption_key_id}".encode()


def seal(apps, schema_editor):
    rows = apps.get_model("billing", "RedemptionCode").objects.filter(encryption_key_id="")
    if not rows.exists():
        return
    key_id, key = next(iter(read_ring().items()))
    pepper = base64.b64decode(settings.KEY_DIGEST_PEPPER)
    of_pepper = hmac.digest(pepper, CHECK, "sha256").hex()
    of_key = hmac.digest(key, CHECK + f"|{key_id}".encode(), "sha256").hex()
    require(apps, "ENCRYPTION_KEYS", key_id, of_key)
    require(apps, "KEY_DIGEST_PEPPER", of_pepper[:12], of_pepper)
    for row in rows.iterator():
        clear = row.code_digest.encode()
        nonce = os.urandom(12)
        row.encryption_key_id, row.pepper_id = key_id, of_pepper[:12]
        row.code_ciphertext = nonce + AESGCM(key).encrypt(nonce, clear, associated(row))
        row.code_last_four = row.code_digest[-4:]
        row.code_digest = hmac.digest(pepper, b"redemption code:" + clear, "sha256").hex()
        row.save()


def require(apps, setting, name, check_value):
    """Record the secret that this writes with. Refuse another secret of the same name."""
    recorded, _ = apps.get_model("channels", "SecretCheck").objects.get_or_create(
        setting=setting, name=name, defaults={"check_value": check_value}
    )
    if recorded.check_value != check_value:
        raise CommandError(
            f"{setting} is not what this database was written with. Nothing was rewritten. Start "
            "with the .env (or secrets) it was made with, then migrate again."
        )


def unseal(apps, schema_editor):
    ring = read_ring()
    codes = apps.get_model("billing", "RedemptionCode").objects.exclude(code_ciphertext=None)
    for row in codes.iterator():
        sealed = bytes(row.code_ciphertext)
        clear = AESGCM(ring[row.encryption_key_id]).decrypt(
            sealed[:12], sealed[12:], associated(row)
        )
        row.code_digest = clear.decode()
        row.code_ciphertext, row.encryption_key_id = None, ""
        row.pepper_id, row.code_last_four = "", ""
        row.save()


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0008_code_digests"),
        ("channels", "0012_record_secrets"),
    ]

    operations = [migrations.RunPython(seal, unseal)]
