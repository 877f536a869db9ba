"""The forms of a channel, with a picker for its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.validators import URLValidator
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import catalogue
from channels.diffs import DiffLine, diff_lines
from channels.fallbacks import CAUSES, CODES, LONGEST_REPLY
from channels.models import Account, Channel, LanguageModel
from channels.models.tags import MOST_TAGS, read_tags, write_tags
from common.db import uuid7
from common.pages.forms import PlainForm
from common.pages.numbers import local_credits, local_number


class PlainText(forms.CharField):
    """A text of several lines, with the line ends it had before a browser sent it."""

    def to_python(self, value: Any) -> str:
        text = str(value or "").replace("\r\n", "\n").replace("\r", "\n")
        return super().to_python(text) or ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that two people set to different values, as lines of both, side by side."""

    label: str
    theirs: list[DiffLine]
    yours: list[DiffLine]


def list_differences(theirs: forms.Form, yours: forms.Form) -> list[Difference]:
    """Return the visible fields in which two filled forms differ."""
    pairs = [
        (str(theirs[name].label), _text(theirs[name]), _text(yours[name]))
        for name in theirs.fields
        if not theirs[name].is_hidden
    ]
    return [_compare(*pair) for pair in pairs if pair[1] != pair[2]]


def _text(field: forms.BoundField) -> str:
    value = field.value()
    if isinstance(value, list):  # of choices
        return "\n".join(map(str, value))
    return "" if value is None else str(value).replace("\r\n", "\n")


def _compare(label: str, theirs: str, yours: str) -> Difference:
    lines = diff_lines(theirs, yours)
    return Difference(
        label,
        [line for line in lines if line.sign != "+"],
        [line for line in lines if line.sign != "-"],
    )


# What 1,000 tokens of each kind cost (LanguageModel.token_prices).
_PRICES = {
    "input": gettext_lazy("%(amount)s per 1,000 input tokens"),
    "cached input": gettext_lazy("%(amount)s per 1,000 cached input tokens"),
    "output": gettext_lazy("%(amount)s per 1,000 output tokens"),
}


@dataclass(frozen=True, slots=True)
class ModelOption:
    """A model as the picker shows it."""

    model: LanguageModel
    is_chosen: bool
    is_offered: bool

    @property
    def price(self) -> str:
        """What a reply costs, in credits."""
        flat = self.model.price_per_reply_microcredits
        words = [_("%(amount)s a reply") % {"amount": local_credits(flat)}] if flat else []
        for kind, price in self.model.token_prices():
            words.append(str(_PRICES[kind]) % {"amount": local_credits(price)})
        return " + ".join(words) or _("free")


class ModelField(forms.ModelChoiceField):  # type: ignore[type-arg]  # generic in the stubs only
    """A choice among the models the account may use, by the gateway's id for them."""

    def __init__(self) -> None:
        super().__init__(
            LanguageModel.objects.none(),
            label=gettext_lazy("Model"),
            to_field_name="model_id",
            error_messages={
                "required": gettext_lazy("Choose a model."),
                "invalid_choice": gettext_lazy("Choose one of the models shown here."),
            },
        )


class PricedModelField(forms.ModelChoiceField):  # type: ignore[type-arg]  # in the stubs only
    """A choice among models in a list, each with its price, by the gateway's id for them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(LanguageModel.objects.none(), to_field_name="model_id", **options)

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name}, {ModelOption(obj, is_chosen=False, is_offered=True).price}"


class ModelPicker:
    """A mixin for forms with a ModelField: chooses the models that the form offers."""

    fields: dict[str, Any]

    def offer(self, account: Account, current: LanguageModel | None = None) -> None:
        """Offer the models to choose from, and the current one even if it is not among them."""
        allowed = list(catalogue.models_offered(account.id).select_related("successor"))
        self.offered = {model.pk for model in allowed}
        self.models = allowed
        if current is not None and current.pk not in self.offered:
            self.models = [current, *allowed]
        ids = [model.pk for model in self.models]
        self.fields["model"].queryset = LanguageModel.objects.filter(pk__in=ids)

    def options(self) -> list[ModelOption]:
        chosen = str(self["model"].value() or "")  # type: ignore[index]  # mixed into a form
        return [
            ModelOption(model, model.model_id == chosen, model.pk in self.offered)
            for model in self.models
        ]


class SiteAddressField(forms.CharField):
    """A web address. If the scheme is missing, https is assumed."""

    default_validators = [
        URLValidator(
            schemes=["http", "https"],
            message=gettext_lazy("Enter a web address such as https://shop.example.com"),
        )
    ]

    def __init__(self) -> None:
        super().__init__(
            label=gettext_lazy("Site address"),
            required=False,
            max_length=200,
            help_text=gettext_lazy(
                "The site that uses the channel, such as https://shop.example.com"
            ),
            widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://"}),
        )

    def to_python(self, value: Any) -> str:
        text = super().to_python(value) or ""
        return text if not text or "://" in text else f"https://{text}"


class TagsField(forms.CharField):
    """Tags with commas between them."""

    def __init__(self) -> None:
        super().__init__(
            label=gettext_lazy("Tags"),
            required=False,
            help_text=format_lazy(
                gettext_lazy(
                    "With commas between them, at most {most}. The list of channels can be "
                    "filtered by them."
                ),
                most=MOST_TAGS,
            ),
        )

    def to_python(self, value: Any) -> str:
        return write_tags(read_tags(super().to_python(value) or ""))


class NewChannelForm(ModelPicker, PlainForm):
    """What a new channel needs. Everything else has sensible defaults."""

    # The id of the new channel, so that submitting the form twice creates one channel.
    id = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        help_text=gettext_lazy(
            "The channel's name in this dashboard. Callers and visitors do not see it."
        ),
    )
    site_url = SiteAddressField()
    model = ModelField()

    def __init__(self, account: Account, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer(account)

    @classmethod
    def empty(cls, account: Account) -> NewChannelForm:
        form = cls(account, initial={"id": uuid7()})
        form.initial["model"] = form.models[0].model_id if form.models else ""
        return form


class SettingsForm(ModelPicker, PlainForm):
    """A channel's settings except its prompt. `digest` is that of the values it was filled with."""

    digest = forms.CharField(widget=forms.HiddenInput, max_length=64)
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    site_url = SiteAddressField()
    tags = TagsField()
    model = ModelField()
    requests_per_minute = forms.IntegerField(
        label=gettext_lazy("Requests per minute"), min_value=1, max_value=100_000
    )
    daily_quota = forms.IntegerField(
        label=gettext_lazy("Messages per day"), min_value=1, max_value=2_147_483_647
    )

    FIELDS = (
        "name",
        "site_url",
        "tags",
        "model",
        "requests_per_minute",
        "daily_quota",
        "fallback_replies",
    )

    def __init__(self, channel: Channel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.channel = channel
        self.offer(channel.account, channel.model)
        for code, title, when in CAUSES:
            self.fields[f"reply_{code}"] = _reply_field(
                str(title), _("%(when)s Code: %(code)s") % {"when": when, "code": code}
            )
        self._say_limits()

    def _say_limits(self) -> None:
        """State the plan's limits, which may be tighter than the channel's."""
        plan = self.channel.account.plan
        limits = {
            "requests_per_minute": _(
                "The plan %(plan)s allows %(most)s requests per minute; the lower number applies."
            ),
            "daily_quota": _(
                "The plan %(plan)s allows %(most)s messages per day for each channel; the lower "
                "number applies."
            ),
        }
        for name, words in limits.items():
            most = getattr(plan, name, None)
            if plan is not None and most is not None:
                named = {"plan": plan.name, "most": local_number(most)}
                self.fields[name].help_text = words % named

    def reply_fields(self) -> list[forms.BoundField]:
        return [self[f"reply_{code}"] for code in CODES]

    @property
    def has_replies(self) -> bool:
        return any(field.value() or field.errors for field in self.reply_fields())

    def changes(self) -> dict[str, Any]:
        """Return the channel's fields with their new values."""
        data = self.cleaned_data
        replies = {code: text for code in CODES if (text := data[f"reply_{code}"])}
        # Keeps replies to codes that this form does not know.
        kept = {k: v for k, v in self.channel.fallback_replies.items() if k not in CODES}
        return {name: data[name] for name in self.FIELDS[:-1]} | {
            "fallback_replies": kept | replies
        }


def _reply_field(title: str, help_text: str) -> PlainText:
    return PlainText(
        label=title,
        help_text=help_text,
        required=False,
        max_length=LONGEST_REPLY,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
