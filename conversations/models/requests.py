"""What is kept of requests that are no stored turn, and of retries."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models import Account, Channel
from common.db import uuid7
from common.pages import dates


class DraftReply(models.Model):
    """What a draft's reply used and cost (chat/drafts.py). No text, and not in visitors' figures.

    Its id is the id of the hold that paid for it. With an error code, it is a request that got no
    reply, and cost nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.ForeignKey(
        Channel, models.CASCADE, related_name="draft_replies", db_index=False
    )
    is_test = models.BooleanField()
    created_at = models.DateTimeField()
    request_id = models.CharField(max_length=128)
    request_model = models.CharField(max_length=100)
    provider_name = models.CharField(max_length=50)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField()
    # As in FailedRequest. Replies are stored without these columns.
    error_code = models.CharField(max_length=50, blank=True, default="", db_default="")
    reason = models.CharField(max_length=100, blank=True, default="", db_default="")

    class Meta:
        verbose_name_plural = _("draft replies")
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_draftreply_of"),
        ]

    def __str__(self) -> str:
        return gettext("draft reply by %(model)s") % {"model": self.request_model}


class FailedRequest(models.Model):
    """A message that got no answer, and why. Its text is not stored."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="failed_requests")
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # The contract's code, as the caller saw it, and the reason behind a provider's failure.
    error_code = models.CharField(max_length=50)
    reason = models.CharField(max_length=100, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    page_url = models.CharField(max_length=2048, blank=True)
    duration_ms = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    api_key_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_failure_usage"),
            models.Index(fields=["created_at"], name="conversations_failure_age"),
            models.Index(fields=["channel", "request_id"], name="conversations_failure_receipt"),
        ]

    def __str__(self) -> str:
        return gettext("%(name)s at %(time)s") % {
            "name": self.error_code,
            "time": dates.show(self.created_at, "j M Y, H:i"),
        }


class ReplayedRequest(models.Model):
    """A retry that received the stored answer of an earlier request, at no charge.

    In a table of its own, because usage counts neither a reply nor an error for it.
    """

    # No index of its own: the one on the time begins with it.
    channel = models.ForeignKey(
        Channel, models.CASCADE, related_name="replayed_requests", db_index=False
    )
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # The reply that was sent again. Null if the stored answer names none.
    message_id = models.UUIDField(null=True, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField()
    api_key_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_replay_usage"),
            models.Index(fields=["created_at"], name="conversations_replay_age"),
            models.Index(fields=["channel", "request_id"], name="conversations_replay_receipt"),
        ]

    def __str__(self) -> str:
        return gettext("%(name)s at %(time)s") % {
            "name": self.request_id,
            "time": dates.show(self.created_at, "j M Y, H:i"),
        }


class IdempotencyRecord(models.Model):
    """A caller's Idempotency-Key: the claim of the running request, or its stored answer.

    While the first request runs, its claim ends at `expires_at`. After that, the stored body is
    replayed until `expires_at`.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+")
    is_test = models.BooleanField()
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    session_id = models.CharField(max_length=255)
    claim_number = models.BigIntegerField(default=1)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    body = models.TextField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "is_test", "key"], name="conversations_idempotencyrecord_unique"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="conversations_idempotency_end"),
        ]

    def __str__(self) -> str:
        return self.key


class ManagementRecord(models.Model):
    """An Idempotency-Key of /api/manage/: the claim of the running request, or its stored answer.

    Like IdempotencyRecord, for an account. The body holds no key in clear text: an answer that
    shows one is rendered from the key's ciphertext.
    """

    account = models.ForeignKey(Account, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    claim_number = models.BigIntegerField(default=1)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    body = models.TextField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "key"], name="conversations_managementrecord_unique"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="conversations_management_end"),
        ]

    def __str__(self) -> str:
        return self.key
