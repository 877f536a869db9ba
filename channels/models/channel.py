"""Channels, with their prompt and its versions, limits, saved replies and keys."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models.catalogue import WEB_ADDRESS, LanguageModel, refuse_userinfo
from channels.models.people import Account, User
from channels.models.tags import LONGEST_TAGS, check_tags, fold_tag, read_tags, write_tags
from common.db import uuid7
from common.pages.numbers import local_number

MAX_SYSTEM_PROMPT_CHARACTERS = 16_000
MOST_STOP_WORDS = 4
LONGEST_STOP_WORD = 50
SHORTEST_ANSWER_TOKENS = 16
LONGEST_QUESTION = 500
LONGEST_SAVED_REPLY = 8_000
# How a channel's model answers. Each version of the prompt has its own.
ANSWER_SETTINGS = ("temperature", "max_answer_tokens", "stop_words", "fallback_model")


def check_stop_words(words: Any) -> None:
    """Raise ValidationError unless this is a list of stop words that providers accept."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValidationError(gettext("Enter a list of words."))
    if len(words) > MOST_STOP_WORDS:
        raise ValidationError(
            gettext("Enter at most %(most)s stop words; these are %(count)s.")
            % {"most": MOST_STOP_WORDS, "count": len(words)}
        )
    for word in words:
        if not word or "\x00" in word:
            raise ValidationError(
                gettext("A stop word needs at least one character, and none may be NUL.")
            )
        if len(word) > LONGEST_STOP_WORD:
            raise ValidationError(
                gettext("A stop word has at most %(most)s characters; “%(word)s…” has %(count)s.")
                % {
                    "most": LONGEST_STOP_WORD,
                    "word": word[:20],
                    "count": local_number(len(word)),
                }
            )


class AnswerSettings(models.Model):
    """How the model answers. Empty: as the provider and the model's terms say.

    With the `fallback_model` that each subclass adds, these are ANSWER_SETTINGS.
    """

    temperature = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(2)],
    )
    max_answer_tokens = models.PositiveIntegerField(
        _("longest answer"),
        null=True,
        blank=True,
        validators=[MinValueValidator(SHORTEST_ANSWER_TOKENS)],
    )
    stop_words = models.JSONField(null=True, blank=True, validators=[check_stop_words])

    class Meta:
        abstract = True


class Channel(AnswerSettings):
    """One site or app that calls the gateway: a prompt, a model, limits, keys."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="channels")
    name = models.CharField(max_length=120)
    # The id that a program of the account's gave the channel (/api/manage/). None: it has none.
    external_id = models.CharField(max_length=120, null=True, blank=True, editable=False)
    site_url = models.CharField(
        _("site address"), max_length=200, blank=True, validators=[WEB_ADDRESS, refuse_userinfo]
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="channels")
    system_prompt = models.TextField(
        blank=True,
        max_length=MAX_SYSTEM_PROMPT_CHARACTERS,
        validators=[MaxLengthValidator(MAX_SYSTEM_PROMPT_CHARACTERS)],
    )
    # Answers a visitor's message if every route of the channel's model failed.
    fallback_model = models.ForeignKey(
        LanguageModel, models.PROTECT, null=True, blank=True, related_name="fallback_channels"
    )
    # The number of the prompt's newest version. Each message stores it.
    prompt_version = models.PositiveIntegerField(default=1, db_default=1, editable=False)
    requests_per_minute = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(100_000)]
    )
    daily_quota = models.PositiveIntegerField(
        _("messages a day"), default=1000, validators=[MinValueValidator(1)]
    )
    fallback_replies = models.JSONField(
        default=dict,
        blank=True,
        help_text=_('What to show the visitor, by error code: {"daily_quota_reached": "…"}.'),
    )
    # With commas between them (tags.py).
    tags = models.CharField(
        max_length=LONGEST_TAGS, blank=True, default="", db_default="", validators=[check_tags]
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            # With a condition, because SQLite would otherwise rebuild the table for it.
            models.UniqueConstraint(
                fields=["account", "external_id"],
                condition=models.Q(external_id__isnull=False),
                name="channels_channel_external_id_unique",
                violation_error_message=_("Another channel of the account has this external_id."),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ValidationError for what the account's plan or the catalogue does not allow.

        Also for an external id that another channel of the account has. Spells tags as the
        account's other channels do.
        """
        flaws: dict[str, str] = {}
        namesakes = Channel.objects.filter(
            account_id=self.account_id, external_id=self.external_id
        ).exclude(id=self.id)
        if self.external_id and namesakes.exists():
            flaws["external_id"] = gettext("Another channel of the account has this external_id.")
        plan = self.account.plan if self.account_id else None
        allowed = set(plan.models_allowed.values_list("id", flat=True)) if plan else set()
        for name in ("model", "fallback_model"):
            chosen = getattr(self, f"{name}_id")
            if plan and allowed and chosen and chosen not in allowed:
                flaws[name] = gettext("The plan %(plan)s does not allow this model.") % {
                    "plan": plan.name
                }
        if self.fallback_model_id and self.fallback_model_id == self.model_id:
            flaws["fallback_model"] = gettext(
                "This is the channel's own model. Choose another one, or none."
            )
        if self.max_answer_tokens and self.model_id:
            most = self.model.max_output_tokens
            if self.max_answer_tokens > most:
                flaws["max_answer_tokens"] = gettext(
                    "%(model)s answers with at most %(most)s tokens. Enter %(most)s or less."
                ) % {"model": self.model, "most": local_number(most)}
        self.tags = write_tags(self._spelled_as_others(read_tags(self.tags)))
        if flaws:
            raise ValidationError(flaws)

    def _spelled_as_others(self, tags: list[str]) -> list[str]:
        """Return tags as the account's other channels spell them, so that equal ones match."""
        if not tags:
            return []
        others = Channel.objects.filter(account_id=self.account_id).exclude(id=self.id)
        texts = others.exclude(tags="").values_list("tags", flat=True).distinct()
        known = {fold_tag(tag): tag for text in texts for tag in read_tags(text)}
        return [known.get(fold_tag(tag), tag) for tag in tags]


class PromptVersion(AnswerSettings):
    """A version of a system prompt, with its answer settings.

    Kept permanently, because messages refer to its number.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="prompt_versions")
    number = models.PositiveIntegerField()
    text = models.TextField(blank=True)
    fallback_model = models.ForeignKey(
        LanguageModel, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    author = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "number"], name="channels_promptversion_unique"
            )
        ]

    def __str__(self) -> str:
        return gettext("version %(number)s") % {"number": self.number}


class FixedAnswer(models.Model):
    """A saved reply: an owner's answer to a question, given without a provider and free.

    Its first wording is its own question (channels/fixed_answers.py).
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="fixed_answers")
    question = models.CharField(max_length=LONGEST_QUESTION)
    answer = models.TextField(
        max_length=LONGEST_SAVED_REPLY, validators=[MaxLengthValidator(LONGEST_SAVED_REPLY)]
    )

    class Meta:
        verbose_name = _("saved reply")
        verbose_name_plural = _("saved replies")

    def __str__(self) -> str:
        return self.question


class Wording(models.Model):
    """One way to ask a saved reply's question. Visitors' messages are compared with it."""

    fixed_answer = models.ForeignKey(FixedAnswer, models.CASCADE, related_name="wordings")
    # A copy of the reply's channel, because a wording has only one answer in a channel.
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+", db_index=False)
    text = models.CharField(max_length=LONGEST_QUESTION)
    # The text that is compared: without case, accents, punctuation, extra white space.
    normalized = models.CharField(max_length=LONGEST_QUESTION, editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "normalized"], name="channels_wording_unique"
            )
        ]

    def __str__(self) -> str:
        return self.text


class ApiKey(models.Model):
    """A channel's key: encrypted so that it can be shown again, and digested for look-up."""

    class Mode(models.TextChoices):
        LIVE = "live", _("Live")
        TEST = "test", _("Test")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80, blank=True, default="", db_default="")
    # None: the command line, a person who was deleted, or a key older than this field.
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    key_prefix = models.CharField(max_length=32)
    key_last_four = models.CharField(max_length=4)
    key_digest = models.CharField(max_length=64, unique=True)
    # The id of the digest's KEY_DIGEST_PEPPER. '' if the key is older than these ids.
    pepper_id = models.CharField(max_length=12, default="", db_default="", editable=False)
    key_ciphertext = models.BinaryField()
    encryption_key_id = models.CharField(max_length=32, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # When the key expires, as after the overlap of a rotation.
    expires_at = models.DateTimeField(null=True, blank=True)
    # Once this is set, the key is refused, whatever time it holds.
    revoked_at = models.DateTimeField(null=True, blank=True)
    # When the key got a successor. A key has at most one.
    rotated_at = models.DateTimeField(null=True, blank=True)
    # One CIDR range on each line (channels/key_terms.py). '': any address. Text, and on the key
    # itself, because the look-up of every request reads it.
    allowed_addresses = models.TextField(blank=True, default="", db_default="")
    # One model id on each line. '': every model.
    allowed_models = models.TextField(blank=True, default="", db_default="")

    class Meta:
        verbose_name = _("API key")

    def __str__(self) -> str:
        return f"{self.masked} ({gettext(self.mode)})"

    @property
    def masked(self) -> str:
        """The key as it may be shown anywhere: `amgai_…x7Qf`."""
        return mask_key(self.key_prefix, self.key_last_four)


def mask_key(prefix: str, last_four: str) -> str:
    """Return a key as it may be shown, from its columns. Lists of thousands need no ApiKey."""
    return f"{prefix}…{last_four}"


class KeyUse(models.Model):
    """The latest use of a key. Not on the key itself, because callers.py reads keys by version.

    channels/key_uses.py writes it, at most once a minute for each key and process.
    """

    key = models.OneToOneField(ApiKey, models.CASCADE, primary_key=True, related_name="use")
    last_used_at = models.DateTimeField()
    address = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = _("key use")
        verbose_name_plural = _("key uses")

    def __str__(self) -> str:
        return f"{self.key_id} from {self.address}"


class KeyHour(models.Model):
    """How many requests came with a key in one hour. Kept for eight days."""

    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="hours", db_index=False)
    starts_at = models.DateTimeField()
    count = models.PositiveIntegerField()
    # How many of them the channel's limit of requests per minute refused.
    refused_count = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        verbose_name = _("key hour")
        verbose_name_plural = _("key hours")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key", "starts_at"], name="channels_keyhour_unique")
        ]

    def __str__(self) -> str:
        return f"{self.key_id} at {self.starts_at}: {self.count}"
