"""The forms for a channel's prompt, answer settings and draft, and the settings in words."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import adaptation, catalogue, channel_changes, model_ends
from channels.models import (
    ANSWER_SETTINGS,
    LONGEST_STOP_WORD,
    MAX_SYSTEM_PROMPT_CHARACTERS,
    MOST_STOP_WORDS,
    SHORTEST_ANSWER_TOKENS,
    Channel,
    LanguageModel,
    PromptVersion,
)
from channels.models.channel import check_stop_words
from common.pages.forms import PlainForm
from common.pages.numbers import in_local_signs, local_number
from dashboard.console.channel_forms import PlainText, PricedModelField

# The fields of a channel that the form changes.
FIELDS = ("system_prompt", *ANSWER_SETTINGS)
# Those that a draft in the playground changes.
DRAFT_FIELDS = ("system_prompt", "model")
# The fields that a provider may refuse, by the protocol's names, and what is said of them.
_IGNORABLE = {
    "temperature": ("temperature", gettext_lazy("%(model)s ignores the temperature.")),
    "stop": ("stop_words", gettext_lazy("%(model)s ignores stop words.")),
}


def prompt_field() -> PlainText:
    """Return a field for a system prompt."""
    return PlainText(
        label=gettext_lazy("System prompt"),
        required=False,
        # White space at either end is the owner's choice.
        strip=False,
        max_length=MAX_SYSTEM_PROMPT_CHARACTERS,
        help_text=gettext_lazy(
            "What the AI reads before every conversation: who it is, what it knows, how it answers."
        ),
        widget=forms.Textarea(attrs={"rows": 18, "dir": "auto", "data-count": "#prompt-count"}),
    )


class PromptForm(PlainForm):
    """The prompt's text and how the model answers. `digest` is that of the values at first."""

    digest = forms.CharField(widget=forms.HiddenInput, max_length=64)
    system_prompt = prompt_field()
    temperature = forms.DecimalField(
        label=gettext_lazy("Temperature"),
        required=False,
        min_value=0,
        max_value=2,
        max_digits=3,
        decimal_places=2,
        help_text=gettext_lazy(
            "From 0, the most predictable, to 2. Leave empty to let the provider decide."
        ),
    )
    max_answer_tokens = forms.IntegerField(
        label=gettext_lazy("Longest answer, in tokens"),
        required=False,
        min_value=SHORTEST_ANSWER_TOKENS,
        max_value=2_147_483_647,
    )
    stop_words = PlainText(
        label=gettext_lazy("Stop words"),
        required=False,
        max_length=2_000,
        help_text=format_lazy(
            gettext_lazy(
                "One on each line, at most {most} of {longest} characters. An answer ends before "
                "the first of them."
            ),
            most=MOST_STOP_WORDS,
            longest=LONGEST_STOP_WORD,
        ),
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
    )
    fallback_model = PricedModelField(
        label=gettext_lazy("Fallback model"),
        required=False,
        empty_label=gettext_lazy("None"),
        error_messages={
            "invalid_choice": gettext_lazy("Choose one of the models shown here, or none.")
        },
    )
    prompt_note = forms.CharField(
        label=gettext_lazy("Note for this version"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("What you changed and why. Only your team sees this."),
    )

    def __init__(self, channel: Channel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = channel.model
        offered = catalogue.models_offered(channel.account_id).exclude(pk=model.pk)
        # Also the one chosen before, even if nobody may choose it any more.
        ids = [*offered.values_list("pk", flat=True), channel.fallback_model_id or 0]
        fallback = self.fields["fallback_model"]
        fallback.queryset = LanguageModel.objects.filter(pk__in=ids)  # type: ignore[attr-defined]
        help_text = _(
            "Answers a visitor if every provider of %(model)s fails. A message then needs credits "
            "for the more expensive of the two models, and is charged as the one that answered."
        )
        fallback.help_text = help_text % {"model": model}
        if chosen := channel.fallback_model:
            today, plan = timezone.now().date(), channel.account.plan
            if words := model_ends.words_of_end(chosen, today=today, plan=plan):
                fallback.help_text += f" {chosen}: {words}."
        help_text = _(
            "%(model)s answers with at most %(most)s. Where tokens have a price, a shorter answer "
            "also needs fewer credits at hand."
        )
        most = local_number(model.max_output_tokens)
        self.fields["max_answer_tokens"].help_text = help_text % {"model": model, "most": most}
        for one in filter(None, (model, channel.fallback_model)):
            for name in adaptation.list_ignored(one):
                name_of_field, said = _IGNORABLE[name]
                field = self.fields[name_of_field]
                field.help_text = f"{field.help_text} {said % {'model': one}}"

    @classmethod
    def filled(cls, channel: Channel) -> PromptForm:
        """Return the form with the channel's prompt and settings."""
        values = {name: getattr(channel, name) for name in FIELDS}
        values["stop_words"] = "\n".join(channel.stop_words or ())
        values["fallback_model"] = channel.fallback_model and channel.fallback_model.model_id
        values["digest"] = channel_changes.digest_fields(channel, FIELDS)
        return cls(channel, initial=values)

    def clean_stop_words(self) -> list[str] | None:
        lines = (line.strip() for line in self.cleaned_data["stop_words"].split("\n"))
        words = list(dict.fromkeys(filter(None, lines)))
        check_stop_words(words)
        return words or None

    def setting_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ANSWER_SETTINGS]

    @property
    def has_settings(self) -> bool:
        return any(
            field.value() not in (None, "") or field.errors for field in self.setting_fields()
        )

    def changes(self) -> dict[str, Any]:
        """Return the channel's fields with their new values."""
        return {name: self.cleaned_data[name] for name in FIELDS}


class DraftForm(PlainForm):
    """A prompt and a model that are not published. `digest` is that of the published ones."""

    digest = forms.CharField(widget=forms.HiddenInput, max_length=64)
    system_prompt = prompt_field()
    model = PricedModelField(
        label=gettext_lazy("Model"),
        empty_label=None,
        error_messages={
            "required": gettext_lazy("Choose a model."),
            "invalid_choice": gettext_lazy("Choose one of the models shown here."),
        },
    )

    def __init__(self, channel: Channel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = catalogue.models_offered(channel.account_id).values_list("pk", flat=True)
        # Also the published one, even if nobody may choose it any more.
        shown = LanguageModel.objects.filter(pk__in=[*offered, channel.model_id])
        self.fields["model"].queryset = shown  # type: ignore[attr-defined]  # of a choice
        self.fields["system_prompt"].widget.attrs["rows"] = 12

    @classmethod
    def filled(cls, channel: Channel) -> DraftForm:
        """Return the form with what is published."""
        values = {"system_prompt": channel.system_prompt, "model": channel.model.model_id}
        digest = channel_changes.digest_fields(channel, DRAFT_FIELDS)
        return cls(channel, initial=values | {"digest": digest})


def words_of_settings(settings: Channel | PromptVersion) -> str:
    """Return answer settings in words, one on each line. Those that are not set have no line."""
    longest, words = settings.max_answer_tokens, settings.stop_words or ()
    temperature = settings.temperature
    lines = []
    if temperature is not None:
        shown = in_local_signs(f"{temperature.normalize():f}")
        lines.append(_("Temperature: %(temperature)s") % {"temperature": shown})
    if longest:
        lines.append(_("Longest answer: %(count)s tokens") % {"count": local_number(longest)})
    if words:
        quoted = ", ".join(_("“%(word)s”") % {"word": word} for word in words)
        lines.append(_("Stop words: %(words)s") % {"words": quoted})
    if settings.fallback_model:
        lines.append(_("Fallback model: %(model)s") % {"model": settings.fallback_model})
    return "\n".join(lines)
