"""Who calls (accounts, channels, keys) and who answers (models, providers, routes)."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxLengthValidator,
    MaxValueValidator,
    MinValueValidator,
    RegexValidator,
    URLValidator,
)
from django.db import models
from django.db.models.functions import Lower

from common.ids import uuid7
from common.text import normalize_question

MAX_SYSTEM_PROMPT_CHARACTERS = 16_000
WEB_ADDRESS = URLValidator(schemes=["http", "https"])


def refuse_reserved_name(name: str) -> None:
    """The provider of PROVIDER_BASE_URL, the demo and fixed answers have their names already."""
    if name in ("default", "demo", "fixed", "simulated"):
        raise ValidationError(f"'{name}' is a name of the gateway's own; choose another.")


class UserManager(BaseUserManager["User"]):
    """Makes users that log in with their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)


class User(AbstractUser):
    """A person who signs in; the e-mail address is the name."""

    username = None  # type: ignore[assignment]  # Django's documented way to drop the field
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                Lower("email"),
                name="channels_user_email_unique",
                violation_error_message="Somebody has signed up with this e-mail address.",
            )
        ]

    def __str__(self) -> str:
        return self.email


class Account(models.Model):
    """Owns channels and pays for them."""

    name = models.CharField(max_length=254)
    plan = models.ForeignKey("Plan", models.PROTECT, null=True, blank=True, related_name="accounts")
    is_enabled = models.BooleanField("enabled", default=True)
    members = models.ManyToManyField(User, through="Membership", related_name="accounts")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """What a person may do in an account."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        EDITOR = "editor", "Editor"
        VIEWER = "viewer", "Viewer"

    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "user"], name="channels_membership_unique")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.account}: {self.role}"


class LanguageModel(models.Model):
    """A model under the gateway's own name; routes say who serves it. Prices are micro-credits."""

    model_id = models.CharField(
        max_length=100,
        unique=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")],
        help_text="The name callers and owners use. It stays when providers rename theirs.",
    )
    name = models.CharField(max_length=100)
    context_window_tokens = models.PositiveIntegerField(validators=[MinValueValidator(512)])
    max_output_tokens = models.PositiveIntegerField(validators=[MinValueValidator(16)])
    speed_tps = models.PositiveIntegerField("speed (tokens a second)", default=0)
    best_for = models.CharField(max_length=120, blank=True)
    price_per_reply_microcredits = models.PositiveBigIntegerField(default=1_000_000)
    price_per_1k_input_tokens_microcredits = models.PositiveBigIntegerField(default=0)
    price_per_1k_output_tokens_microcredits = models.PositiveBigIntegerField(default=0)
    is_enabled = models.BooleanField("enabled", default=True)
    position = models.PositiveSmallIntegerField(default=0, help_text="The first is the default.")

    class Meta:
        ordering: ClassVar = ["position", "model_id"]

    def __str__(self) -> str:
        return self.name


class Plan(models.Model):
    """What an account may at most do, and what it is granted each month; channels only tighten."""

    name = models.CharField(max_length=60, unique=True)
    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: no limit."
    )
    daily_quota = models.PositiveIntegerField(
        "messages a day for each channel",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Empty: no limit.",
    )
    monthly_grant_microcredits = models.PositiveBigIntegerField(
        default=0,
        help_text="Granted for each UTC month, gone at its end. 1 credit = 1,000,000.",
    )
    models_allowed = models.ManyToManyField(
        LanguageModel, blank=True, related_name="plans", help_text="None chosen: all."
    )

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Channel(models.Model):
    """One site or app that calls the gateway: a prompt, a model, limits, keys."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="channels")
    name = models.CharField(max_length=120)
    site_url = models.CharField(
        "site address", max_length=200, blank=True, validators=[WEB_ADDRESS]
    )
    is_enabled = models.BooleanField("enabled", default=True)
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="channels")
    system_prompt = models.TextField(
        blank=True,
        max_length=MAX_SYSTEM_PROMPT_CHARACTERS,
        validators=[MaxLengthValidator(MAX_SYSTEM_PROMPT_CHARACTERS)],
    )
    requests_per_minute = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(100_000)]
    )
    daily_quota = models.PositiveIntegerField(
        "messages a day", default=1000, validators=[MinValueValidator(1)]
    )
    fallback_replies = models.JSONField(
        default=dict,
        blank=True,
        help_text='What to show the visitor, by error code: {"daily_quota_reached": "…"}.',
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """A channel may only have a model that its account's plan allows."""
        plan = self.account.plan if self.account_id else None
        if plan is None or not self.model_id or not plan.models_allowed.exists():
            return
        if not plan.models_allowed.filter(id=self.model_id).exists():
            raise ValidationError({"model": f"The plan {plan.name} does not allow this model."})


class FixedAnswer(models.Model):
    """An owner's own answer to a question: given without a provider, and free."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="fixed_answers")
    question = models.CharField(max_length=500)
    # What is compared: the question without case, accents, punctuation and extra white space.
    question_normalized = models.CharField(max_length=500, editable=False)
    answer = models.TextField(max_length=8_000, validators=[MaxLengthValidator(8_000)])

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "question_normalized"], name="channels_fixedanswer_unique"
            )
        ]

    def __str__(self) -> str:
        return self.question

    def clean(self) -> None:
        """Two questions that differ only in what is not compared are the same question."""
        self.question_normalized = normalize_question(self.question)
        if not self.question_normalized:
            raise ValidationError({"question": "Needs at least one letter or digit."})
        same = FixedAnswer.objects.filter(
            channel_id=self.channel_id, question_normalized=self.question_normalized
        )
        if same.exclude(pk=self.pk).exists():
            raise ValidationError({"question": "This question has an answer already."})


class ApiKey(models.Model):
    """A channel's key: encrypted to be shown again, digested to be found."""

    class Mode(models.TextChoices):
        LIVE = "live", "Live"
        TEST = "test", "Test"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="api_keys")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    key_prefix = models.CharField(max_length=32)
    key_last_four = models.CharField(max_length=4)
    key_digest = models.CharField(max_length=64, unique=True)
    key_ciphertext = models.BinaryField()
    encryption_key_id = models.CharField(max_length=32, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.masked} ({self.mode})"

    @property
    def masked(self) -> str:
        """The key as it may be shown anywhere: `amgai_…x7Qf`."""
        return f"{self.key_prefix}…{self.key_last_four}"


class Provider(models.Model):
    """Somebody who serves models over the OpenAI protocol."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.SlugField(max_length=50, unique=True, validators=[refuse_reserved_name])
    base_url = models.CharField(
        max_length=200,
        validators=[WEB_ADDRESS],
        help_text="Up to and with /v1, as in https://api.groq.com/openai/v1",
    )
    key_setting = models.CharField(
        "key from setting",
        max_length=64,
        blank=True,
        choices=[("GROQ_API_KEY", "GROQ_API_KEY"), ("OPENROUTER_API_KEY", "OPENROUTER_API_KEY")],
        help_text="The environment variable with the key, unless one is stored here.",
    )
    key_ciphertext = models.BinaryField(null=True, blank=True)
    encryption_key_id = models.CharField(max_length=32, blank=True, db_index=True)
    is_enabled = models.BooleanField("enabled", default=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """One way to a model: a provider, and that provider's name for it. Tried in order."""

    model = models.ForeignKey(LanguageModel, models.CASCADE, related_name="routes")
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="routes")
    provider_model = models.CharField("name at the provider", max_length=200)
    position = models.PositiveSmallIntegerField(default=0, help_text="The first is tried first.")
    is_enabled = models.BooleanField("enabled", default=True)

    class Meta:
        ordering: ClassVar = ["position", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "provider", "provider_model"], name="channels_route_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} at {self.provider}"


class RouteHealth(models.Model):
    """What all processes know of a failing route (channels/breaker.py); no row: all is well."""

    provider_name = models.CharField(max_length=50)
    provider_model = models.CharField(max_length=200)
    failure_count = models.PositiveIntegerField(default=0)
    is_permanent = models.BooleanField(default=False)
    reason = models.CharField(max_length=50)
    # Until then the route is left out; None while it is only being counted.
    retry_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "route health"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider_name", "provider_model"], name="channels_routehealth_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider_model} at {self.provider_name}: {self.reason}"
