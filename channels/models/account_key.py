"""Account keys: what a program manages an account's channels with. They cannot chat."""

from __future__ import annotations

import uuid

from django.db import models

from channels.models.people import Account, User


class AccountKey(models.Model):
    """An account's key for /api/manage/. Shown once, and digested for look-up.

    The ciphertext is needed to compute the digest again under another pepper.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="account_keys")
    name = models.CharField(max_length=120)
    key_prefix = models.CharField(max_length=40)
    key_last_four = models.CharField(max_length=4)
    key_digest = models.CharField(max_length=64, unique=True)
    # The id of the digest's KEY_DIGEST_PEPPER.
    pepper_id = models.CharField(max_length=12, editable=False)
    key_ciphertext = models.BinaryField()
    encryption_key_id = models.CharField(max_length=32, db_index=True)
    created_by = models.ForeignKey(
        User, models.SET_NULL, null=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    # Once this is set, the key is refused, whatever time it holds.
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Written at most once a minute.
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.masked})"

    @property
    def masked(self) -> str:
        """The key as it may be shown anywhere: `amgai_admin_…x7Qf`."""
        return f"{self.key_prefix}…{self.key_last_four}"
