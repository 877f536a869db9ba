"""Records the check values of the secrets that stored rows need, once rows have proven them.

A key is proven by opening a row that names it, the pepper by digesting an opened API key. Where a
secret turns out to be another one, the migration stops. The formats are those of common/crypto.py
and gateway/accounts/adapter.py at this time.
"""

import base64
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.management.base import CommandError
from django.db import migrations

CHECK = b"gateway check value"
RESTORE = (
    "Nothing was rewritten. Start with the .env (or secrets) this database was made with, "
    "then migrate again."
)
# A damaged row must not pass for a wrong key.
SAMPLE = 20


def read_ring():
    pairs = (part.strip().partition(":") for part in settings.ENCRYPTION_KEYS.split(","))
    return {key_id: base64.b64decode(key) for key_id, _, key in pairs if key_id}


def read_peppers():
    texts = [settings.KEY_DIGEST_PEPPER, *settings.KEY_DIGEST_PEPPER_FALLBACKS.split(",")]
    return [base64.b64decode(text.strip()) for text in texts if text.strip()]


def opened(ring, key_id, sealed, context):
    """Return the clear text, or None for a damaged row or another key."""
    try:
        associated = f"{context}|{key_id}".encode()
        return AESGCM(ring[key_id]).decrypt(sealed[:12], sealed[12:], associated)
    except (InvalidTag, ValueError):
        return None


def sealed_rows(apps):
    """Yield (key id, ciphertext, context, digest) of all that is encrypted, the newest first."""
    ApiKey, Provider = (apps.get_model("channels", name) for name in ("ApiKey", "Provider"))
    for row in ApiKey.objects.order_by("-created_at").iterator():
        context = f"channels_apikey.key_ciphertext.{row.id}"
        yield row.encryption_key_id, bytes(row.key_ciphertext), context, row.key_digest
    for row in Provider.objects.exclude(key_ciphertext=None):
        context = f"channels_provider.key_ciphertext.{row.id}"
        yield row.encryption_key_id, bytes(row.key_ciphertext), context, ""
    for row in apps.get_model("mfa", "Authenticator").objects.iterator():
        for member in ("secret", "seed"):
            text, context = str(row.data.get(member, "")), "mfa_authenticator.data"
            if text.startswith("row:"):  # of a later version, which was migrated back
                text, context = text.removeprefix("row:"), f"{context}.{row.user_id}.{row.type}"
            key_id, colon, sealed = text.partition(":")
            if colon:
                yield key_id, decoded(sealed), context, ""


def decoded(text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""  # damaged


def record(apps, schema_editor):
    ring, peppers = read_ring(), read_peppers()
    proven, tried, digested = set(), {}, []
    for key_id, sealed, context, digest in sealed_rows(apps):
        if key_id not in ring:
            raise CommandError(
                f"The database holds secrets encrypted with '{key_id}', which is not in "
                f"ENCRYPTION_KEYS. {RESTORE}"
            )
        if key_id in proven or tried.setdefault(key_id, 0) >= SAMPLE:
            continue
        tried[key_id] += 1
        clear = opened(ring, key_id, sealed, context)
        if clear is not None:
            proven.add(key_id)
            digested += [(clear, digest)] if digest else []
    for key_id in tried.keys() - proven:
        raise CommandError(
            f"The key '{key_id}' in ENCRYPTION_KEYS opens no row of this database that it is the "
            f"key of. {RESTORE}"
        )
    needed = pepper_of(digested, peppers)
    SecretCheck = apps.get_model("channels", "SecretCheck")
    for key_id in sorted(proven):
        value = hmac.digest(ring[key_id], CHECK + f"|{key_id}".encode(), "sha256").hex()
        SecretCheck.objects.create(setting="ENCRYPTION_KEYS", name=key_id, check_value=value)
    for pepper in needed:
        value = hmac.digest(pepper, CHECK, "sha256").hex()
        SecretCheck.objects.create(setting="KEY_DIGEST_PEPPER", name=value[:12], check_value=value)


def forget(apps, schema_editor):
    apps.get_model("channels", "SecretCheck").objects.all().delete()


def pepper_of(digested, peppers):
    """Return the pepper of the opened API keys, in a list; none where there are no such keys."""
    if not digested:
        return []
    for pepper in peppers:
        if any(hmac.digest(pepper, clear, "sha256").hex() == stored for clear, stored in digested):
            return [pepper]
    raise CommandError(
        f"KEY_DIGEST_PEPPER is not the one this database was written with. {RESTORE}"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0011_secret_checks"),
        ("mfa", "0003_authenticator_type_uniq"),
    ]

    operations = [migrations.RunPython(record, forget)]
