"""Secrets of rows: encrypted so that they can be shown again, and digested for look-up.

Everything stored under ENCRYPTION_KEYS or KEY_DIGEST_PEPPER is sealed here, after
`secret_checks.require_ours` and in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Model, Q

from channels import secret_checks
from channels.models import AccountKey, ApiKey, Invitation, Provider
from common import crypto


def encrypt(clear: str, *, context: str) -> tuple[str, bytes]:
    """Return (key id, ciphertext) of a secret to store. Raises WrongSecrets."""
    secret_checks.require_ours()
    return _encrypt(clear, context=context)


def _encrypt(clear: str, *, context: str) -> tuple[str, bytes]:
    key_id, sealed = crypto.encrypt(clear, context=context)
    secret_checks.count_encryption(key_id)
    return key_id, sealed


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """The columns in which a table keeps one secret of each row.

    The ciphertext is bound to its table, column and row, and `encryption_key_id` has the id of its
    key. If rows are looked up by their secret, `digest` names the field of its digest, and
    `pepper_id` has the id of the digest's pepper. `prefix` keeps the digests of different kinds of
    secrets distinct.
    """

    label: str
    model: type[Model]
    ciphertext: str
    digest: str = ""
    prefix: str = ""

    def context(self, pk: Any) -> str:
        """Return the encryption context that binds a ciphertext to its row."""
        return f"{self.model._meta.db_table}.{self.ciphertext}.{pk}"

    @property
    def fields(self) -> list[str]:
        """The names of the fields that `seal` sets."""
        of_digest = [self.digest, "pepper_id"] if self.digest else []
        return ["encryption_key_id", self.ciphertext, *of_digest]

    def seal(self, row: Any, clear: str) -> list[str]:
        """Set a row's ciphertext and digest without saving. Returns the names of the fields.

        The row must have its primary key. Raises WrongSecrets.
        """
        return self.seal_all([(row, clear)])

    def seal_all(self, rows: list[tuple[Any, str]]) -> list[str]:
        """Do the same as `seal` for many rows at once."""
        secret_checks.require_ours()
        for row, clear in rows:
            row.encryption_key_id, sealed = _encrypt(clear, context=self.context(row.pk))
            setattr(row, self.ciphertext, sealed)
            if self.digest:
                setattr(row, self.digest, self.digests_of(clear)[0])
                row.pepper_id = next(iter(crypto.check_values_of_peppers()))
        return self.fields

    def unseal(self, row: Any) -> str:
        """Return a row's secret. Raises common.crypto.DecryptionError."""
        sealed = bytes(getattr(row, self.ciphertext) or b"")
        return crypto.decrypt(row.encryption_key_id, sealed, context=self.context(row.pk))

    def digests_of(self, clear: str) -> list[str]:
        """Return the digests a row with this secret may have, beginning with the newest pepper."""
        return crypto.digests(self.prefix + clear)

    def found_by(self, clear: str) -> Q:
        """Return the condition that matches the row with this secret."""
        return Q(**{f"{self.digest}__in": self.digests_of(clear)})


API_KEYS = SealedColumn("API keys", ApiKey, "key_ciphertext", digest="key_digest")
ACCOUNT_KEYS = SealedColumn("account keys", AccountKey, "key_ciphertext", digest="key_digest")
PROVIDER_KEYS = SealedColumn("provider keys", Provider, "key_ciphertext")
INVITATIONS = SealedColumn(
    "invitations",
    Invitation,
    "secret_ciphertext",
    digest="secret_digest",
    prefix="invitation:",
)
