"""The catalogue: models under the gateway's own names, providers, and the routes between them."""

from __future__ import annotations

import uuid
from datetime import date
from typing import ClassVar
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator, URLValidator
from django.db import models
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from common.web_addresses import flaw_of

# The protocol's two names for the length limit of an answer.
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
WEB_ADDRESS = URLValidator(schemes=["http", "https"])
# The names of providers without a row: PROVIDER_BASE_URL, the demo, saved replies, X-Simulate.
RESERVED_NAMES = ("default", "demo", "fixed", "simulated")


def refuse_userinfo(url: str) -> None:
    """Raise ValidationError for a user or password in an address, which pages and logs show."""
    if "@" in urlsplit(url).netloc:
        raise ValidationError(
            gettext("Leave the user and password (the part before @) out of the address.")
        )


# What refuse_flaws says, for translators: common/web_addresses.py runs without Django.
FLAWS = (
    gettext_noop("The address must not contain white space."),
    gettext_noop("The address must not contain a backslash."),
    gettext_noop("The address must start with https:// or http://."),
    gettext_noop(
        "The address must have a host and, if any, a port from 1 to 65535: https://host:8000/v1."
    ),
    gettext_noop(
        "The address must not contain a user or password (the part before @): keys have their own "
        "place."
    ),
    gettext_noop("The address must name a host: https://api.example.com/v1."),
    gettext_noop("The address must have a port from 1 to 65535, or none."),
    gettext_noop("The address must not have a fragment (the part from # on)."),
)


def refuse_flaws(url: str) -> None:
    """Raise ValidationError for an address to which the gateway cannot append paths."""
    if flaw := flaw_of(url):
        words = f"The address {flaw}."  # one of FLAWS
        raise ValidationError(gettext(words))


def refuse_reserved_name(name: str) -> None:
    """Raise ValidationError for a name that a built-in provider uses already."""
    if name in RESERVED_NAMES:
        raise ValidationError(
            gettext("'%(name)s' is a name of the gateway's own; choose another.") % {"name": name}
        )


class LanguageModel(models.Model):
    """A model under the gateway's own name. Routes say who serves it. Prices are micro-credits."""

    model_id = models.CharField(
        max_length=100,
        unique=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")],
        help_text=_("The name callers and owners use. It stays when providers rename theirs."),
    )
    name = models.CharField(max_length=100)
    context_window_tokens = models.PositiveIntegerField(validators=[MinValueValidator(512)])
    max_output_tokens = models.PositiveIntegerField(validators=[MinValueValidator(16)])
    image_tokens = models.PositiveIntegerField(
        _("tokens held for an image"),
        default=0,
        db_default=0,
        help_text=_(
            "The most that one image can come to at any of the model's providers. 0: the "
            "model takes no images."
        ),
    )
    speed_tps = models.PositiveIntegerField(_("speed (tokens a second)"), default=0)
    best_for = models.CharField(max_length=120, blank=True)
    price_per_reply_microcredits = models.PositiveBigIntegerField(default=1_000_000)
    price_per_1k_input_tokens_microcredits = models.PositiveBigIntegerField(default=0)
    price_per_1k_output_tokens_microcredits = models.PositiveBigIntegerField(default=0)
    price_per_1k_cached_input_tokens_microcredits = models.PositiveBigIntegerField(
        null=True, blank=True
    )
    hides_thinking = models.BooleanField(
        _("leaves out thinking"),
        default=True,
        db_default=True,
        help_text=_(
            "Remove a leading <think>…</think> from replies to visitors. /v1 is untouched."
        ),
    )
    first_token_seconds = models.PositiveIntegerField(
        _("seconds to the first token"),
        default=0,
        db_default=0,
        help_text=_(
            "For a model that thinks for minutes without showing it: how long to wait for "
            "its answer to begin, up to PROVIDER_STREAM_DEADLINE. 0: PROVIDER_DEADLINE, as usual."
        ),
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)
    position = models.PositiveSmallIntegerField(default=0, help_text=_("The first is the default."))
    ends_on = models.DateField(
        _("retires on"),
        null=True,
        blank=True,
        help_text=_(
            "The UTC day on which its channels move to the successor. Owners hear of it "
            "30 days before. Leave empty to keep the model."
        ),
    )
    successor = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="predecessors",
        help_text=_("The model that its channels move to. Leave empty to keep them on this one."),
    )
    is_retired_upstream = models.BooleanField(
        _("retired by its first provider"),
        default=False,
        db_default=False,
        help_text=_("Pages that offer the model say so. Other providers may still serve it."),
    )

    class Meta:
        ordering: ClassVar = ["position", "model_id"]

    def __str__(self) -> str:
        return self.name

    def is_over(self, today: date) -> bool:
        """Return whether the model's last day is over, so that no more channels may choose it."""
        return self.ends_on is not None and self.ends_on <= today

    def clean(self) -> None:
        """Refuse a price of cached input above that of input, because holds count all as input."""
        cached = self.price_per_1k_cached_input_tokens_microcredits
        price = self.price_per_1k_input_tokens_microcredits
        if cached is not None and cached > price:
            raise ValidationError(
                {
                    "price_per_1k_cached_input_tokens_microcredits": (
                        gettext("Cached input must not cost more than other input.")
                    )
                }
            )

    def token_prices(self) -> list[tuple[str, int]]:
        """Return the kinds of tokens that have a price, with the micro-credits for 1,000 tokens.

        Includes cached input if its price differs from that of other input.
        """
        came_in = self.price_per_1k_input_tokens_microcredits
        cached = self.price_per_1k_cached_input_tokens_microcredits
        prices = [("input", came_in)] if came_in else []
        if cached is not None and cached != came_in:
            prices.append(("cached input", cached))
        went_out = self.price_per_1k_output_tokens_microcredits
        return [*prices, ("output", went_out)] if went_out else prices


class Provider(models.Model):
    """A service that offers models over the OpenAI protocol."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.SlugField(max_length=50, unique=True, validators=[refuse_reserved_name])
    base_url = models.CharField(
        max_length=200,
        validators=[WEB_ADDRESS, refuse_flaws],
        help_text=_("Up to and including /v1, as in https://api.groq.com/openai/v1"),
    )
    key_setting = models.CharField(
        _("key from setting"),
        max_length=64,
        blank=True,
        choices=[("GROQ_API_KEY", "GROQ_API_KEY"), ("OPENROUTER_API_KEY", "OPENROUTER_API_KEY")],
        help_text=_("The environment variable with the key, unless one is stored here."),
    )
    key_ciphertext = models.BinaryField(null=True, blank=True)
    encryption_key_id = models.CharField(max_length=32, blank=True, db_index=True)
    is_enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            # In the database, so that it holds for every writer: this name identifies a route's
            # traits and health.
            models.CheckConstraint(
                condition=~models.Q(name__in=RESERVED_NAMES),
                name="channels_provider_name_not_reserved",
                violation_error_message=_("This is a name of the gateway's own; choose another."),
            )
        ]

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """One way to a model: a provider, and that provider's name for the model. Tried in order."""

    model = models.ForeignKey(LanguageModel, models.CASCADE, related_name="routes")
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="routes")
    provider_model = models.CharField(_("name at the provider"), max_length=200)
    limit_name = models.CharField(
        _("name of the answer limit"),
        max_length=21,
        blank=True,
        default="",
        db_default="",
        choices=[(name, name) for name in LIMIT_NAMES],
        help_text=_("Leave empty: the gateway learns which of them this route takes."),
    )
    position = models.PositiveSmallIntegerField(default=0, help_text=_("The first is tried first."))
    allowed_parameters = models.TextField(
        _("additional allowed parameters"),
        max_length=1_000,
        blank=True,
        default="",
        db_default="",
        validators=[
            RegexValidator(
                r"^[A-Za-z_]\w*( [A-Za-z_]\w*)*$",
                _("Write names of letters, digits and _, with one space between two."),
            )
        ],
        help_text=_(
            "Names that callers of /v1 may send to this route, separated by spaces, as in "
            "repeat_last_n mirostat. The API's page lists those that need no entry here; what it "
            "refuses with a reason stays refused."
        ),
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        ordering: ClassVar = ["position", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "provider", "provider_model"], name="channels_route_unique"
            )
        ]

    def __str__(self) -> str:
        return gettext("%(model)s at %(provider)s") % {
            "model": self.model,
            "provider": self.provider,
        }


class RouteTraits(models.Model):
    """What the gateway learned about how to send requests to a route (channels/adaptation.py).

    Refers to the provider by name, because a provider may have no row. Applies only at the address
    where it was learned. Triggers delete it when staff edit the route's name at the provider or the
    provider's address (migration 0019).
    """

    provider_name = models.CharField(max_length=50)
    provider_model = models.CharField(max_length=200)
    base_url = models.CharField(max_length=500)
    limit_name = models.CharField(max_length=21, blank=True)
    has_stream_options = models.BooleanField(default=True)
    system_messages = models.CharField(max_length=4, blank=True)
    has_text_content = models.BooleanField(default=False)
    context_window_tokens = models.PositiveIntegerField(null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True)
    begins_in_thought = models.BooleanField(null=True, blank=True)
    ignores_temperature = models.BooleanField(null=True, blank=True)
    ignores_stop = models.BooleanField(null=True, blank=True)
    learned_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = _("route traits")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider_name", "provider_model"], name="channels_routetraits_unique"
            )
        ]

    def __str__(self) -> str:
        return gettext("%(model)s at %(provider)s") % {
            "model": self.provider_model,
            "provider": self.provider_name,
        }


class RouteHealth(models.Model):
    """What all processes know about a failing route (channels/breaker.py). No row: healthy."""

    provider_name = models.CharField(max_length=50)
    provider_model = models.CharField(max_length=200)
    # Doubtful failures in a row, with those of streams counted separately.
    failure_count = models.PositiveIntegerField(default=0)
    stream_failure_count = models.PositiveIntegerField(default=0, db_default=0)
    is_permanent = models.BooleanField(default=False)
    reason = models.CharField(max_length=50)
    # Since when the route is left out until it answers a probe, perhaps for streams only.
    opened_at = models.DateTimeField(null=True, blank=True)
    is_for_streams = models.BooleanField(default=False, db_default=False)
    # For an open route, when its next probe is due. Otherwise, until when the provider asked the
    # gateway to wait.
    retry_at = models.DateTimeField(null=True, blank=True)
    # Until when one process has claimed the probe of a route that is not open.
    probe_until = models.DateTimeField(null=True, blank=True, editable=False)
    failed_at = models.DateTimeField()
    # When the operators got an e-mail about it (alerts.py).
    alerted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name_plural = _("route health")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider_name", "provider_model"], name="channels_routehealth_unique"
            )
        ]

    def __str__(self) -> str:
        return gettext("%(model)s at %(provider)s: %(reason)s") % {
            "model": self.provider_model,
            "provider": self.provider_name,
            "reason": self.reason,
        }


class CatalogueVersion(models.Model):
    """A single row, whose mark changes whenever a provider, a route or a route's traits change.

    Triggers change it, so no writer can forget to (migration 0007). Code that caches rows of these
    tables compares the mark first.
    """

    id = models.PositiveSmallIntegerField(primary_key=True)
    mark = models.CharField(max_length=36)

    def __str__(self) -> str:
        return self.mark
