"""The terms of a key: the page that creates a key, and the page that changes its terms."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import api_keys, catalogue
from channels.errors import ChannelChanged, ExcludesLatestCaller, KeyNotActive, MadeBefore
from channels.key_terms import LONGEST_NAME, MOST_RANGES, KeyTerms
from channels.models import ApiKey, Channel
from common.addresses import is_public_address, parse_address
from common.pages import durations
from common.pages.forms import DayField, PlainForm, id_of_new
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.channel_forms import Difference, PlainText, list_differences
from dashboard.console.channels import add_errors, words_of_conflict
from dashboard.console.keys import get_key, key_row, render_keys
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page

_BETWEEN_RANGES = re.compile(r"[\s,;]+")


class RangesField(PlainText):
    """Address ranges, separated by line ends, white space or commas. Its value is a list."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return [entry for entry in _BETWEEN_RANGES.split(text) if entry]


class KeyForm(PlainForm):
    """The terms that an owner sets for a key. The services check them (channels/key_terms.py)."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        required=False,
        max_length=LONGEST_NAME,
        help_text=gettext_lazy(
            "What uses the key, such as “Checkout, production”. GET /api/key shows it to callers."
        ),
    )
    expires_at = DayField(
        label=gettext_lazy("Works through"),
        required=False,
        help_text=gettext_lazy(
            "The last day the key works, in UTC. Leave empty to keep it until you revoke it."
        ),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    allowed_addresses = RangesField(
        label=gettext_lazy("Allowed addresses"),
        required=False,
        max_length=5_000,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "203.0.113.0/24"}),
    )
    allowed_models = forms.MultipleChoiceField(
        label=gettext_lazy("Allowed models"),
        required=False,
        error_messages={
            "invalid_choice": gettext_lazy(
                "There is no model “%(value).80s”. Choose among those shown here."
            )
        },
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, request: HttpRequest, channel: Channel, *args: Any, **options: Any) -> None:
        self.stored: KeyTerms = options.pop("stored", KeyTerms())
        super().__init__(*args, **options)
        self.fields["allowed_addresses"].help_text = _help_with_ranges(request)
        model = channel.model.model_id
        offered = {one.model_id: one.name for one in catalogue.models_allowed(channel.account_id)}
        offered.setdefault(model, channel.model.name)
        for one in self.stored.allowed_models:
            offered.setdefault(one, one)
        field = self.fields["allowed_models"]
        field.choices = list(offered.items())  # type: ignore[attr-defined]
        words = _(
            "If you choose none, every model is allowed. The channel uses %(model)s; if you leave "
            "that out, POST /api/chat refuses this key."
        )
        field.help_text = words % {"model": channel.model.name}

    def terms(self) -> KeyTerms:
        """Return the terms of a valid form."""
        data = self.cleaned_data
        last_day, kept = data["expires_at"], self.stored.expires_at
        expires_at = None
        if last_day is not None:
            # The whole day. An end that a rotation has set keeps its time of day.
            is_kept = kept is not None and last_day == _last_day(kept)
            expires_at = kept if is_kept else _end_of(last_day)
        return KeyTerms(data["name"], expires_at, data["allowed_addresses"], data["allowed_models"])


class NewKeyForm(KeyForm):
    """The form for a new key. It carries the key's id, so sending it twice creates one key."""

    key_id = forms.UUIDField(widget=forms.HiddenInput)
    mode = forms.ChoiceField(
        label=gettext_lazy("Kind"),
        choices=[
            (ApiKey.Mode.LIVE, gettext_lazy("Live: reaches the model, spends credits")),
            (ApiKey.Mode.TEST, gettext_lazy("Test: demo answers, free")),
        ],
        error_messages=dict.fromkeys(
            ("required", "invalid_choice"),
            gettext_lazy("Choose whether the key is a live or a test key."),
        ),
    )


class EditKeyForm(KeyForm):
    """The form for an existing key, with a digest of its terms when the page was opened."""

    digest = forms.CharField(widget=forms.HiddenInput, max_length=64)
    # Shown once the ranges exclude the latest caller.
    confirmed = forms.BooleanField(
        label=gettext_lazy("Exclude that address"), required=False, widget=forms.HiddenInput
    )

    @classmethod
    def filled(cls, request: HttpRequest, channel: Channel, key: ApiKey) -> EditKeyForm:
        stored = api_keys.terms_of(key)
        values = {
            "name": stored.name,
            "expires_at": stored.expires_at and _last_day(stored.expires_at),
            "allowed_addresses": "\n".join(stored.allowed_addresses),
            "allowed_models": list(stored.allowed_models),
            "digest": stored.digest(),
        }
        return cls(request, channel, initial=values, stored=stored)

    def ask_to_exclude(self, refusal: ExcludesLatestCaller) -> None:
        """Show a box to tick beside the ranges that exclude the latest caller."""
        words = _(
            "Nothing was saved: the latest request with this key came from %(address)s (%(ago)s), "
            "which these ranges exclude. Add a range for it, or tick the box below and save again."
        )
        named = {"address": refusal.address, "ago": durations.ago(refusal.used_at, timezone.now())}
        self.add_error("allowed_addresses", words % named)
        self.fields["confirmed"].widget = forms.CheckboxInput()


def _last_day(end: datetime) -> Any:
    """Return the last UTC day on which a key with this end works."""
    return (end - timedelta(microseconds=1)).astimezone(UTC).date()


def _end_of(day: Any) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC) + timedelta(days=1)


def _help_with_ranges(request: HttpRequest) -> str:
    words = _(
        "One range on each line, at most %(most)s, such as 203.0.113.0/24, 203.0.113.7 or "
        "2001:db8::/32. Leave empty to allow every address."
    ) % {"most": MOST_RANGES}
    peer = parse_address(request.META.get("REMOTE_ADDR", ""))
    if settings.TRUSTED_PROXY_COUNT or (peer and is_public_address(peer)):
        return words
    warning = _(
        "This gateway sees you as %(address)s, which is not public, and trusts no proxy. If it "
        "runs behind one, all callers look alike, and ranges let in everybody or nobody. The "
        "operator can set TRUSTED_PROXY_COUNT."
    )
    return f"{words} {warning % {'address': peer or _('an unknown address')}}"


# --- A new key ------------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
def new_key(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Create a key with its terms, and show it in the response."""
    if request.method != "POST":
        start = {"key_id": uuid.uuid4(), "mode": request.GET.get("mode", "live")}
        return _render(request, member, channel, NewKeyForm(request, channel, initial=start))
    form = NewKeyForm(request, channel, request.POST)
    if not form.is_valid():
        for words in form.errors.get("key_id", []):
            form.add_error(None, words)
        return _render(request, member, channel, form, status=422)
    data = form.cleaned_data
    try:
        issued = api_keys.issue_api_key(
            channel=channel,
            is_test=data["mode"] == ApiKey.Mode.TEST,
            key_id=id_of_new(data["key_id"], of=channel.id),
            terms=form.terms(),
            actor=member.actor,
        )
    except MadeBefore:
        messages.info(request, _("This form was already submitted. Its key is in the list."))
        return redirect("console:keys", channel.id)
    except ValidationError as error:  # also PlanLimitReached
        add_errors(form, error)
        return _render(request, member, channel, form, status=422)
    _warn_of_model(request, channel, form.terms())
    return render_keys(request, member, channel, fresh=(issued,))


def _warn_of_model(request: HttpRequest, channel: Channel, terms: KeyTerms) -> None:
    if terms.allowed_models and channel.model.model_id not in terms.allowed_models:
        words = _("POST /api/chat refuses this key: it may not use %(model)s, the channel's model.")
        messages.warning(request, words % {"model": channel.model.name})


def _render(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    form: KeyForm,
    *,
    key: ApiKey | None = None,
    status: int = 200,
    differences: Sequence[Difference] = (),
) -> HttpResponse:
    return render_page(
        request,
        member,
        "key_form.html",
        title=_("Keys"),
        channel=channel,
        form=form,
        key=key,
        differences=differences,
        theirs_url=console_url("edit_key", channel.id, key.id) if key else "",
        status=status,
    )


# --- An existing key ------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
def edit_key(
    request: HttpRequest, member: Member, channel: Channel, key_id: uuid.UUID
) -> HttpResponse:
    """Change a key's terms, unless somebody else has since the page was opened."""
    key = get_key(channel, key_id)
    if not key_row(key, timezone.now()).works:
        return _tell_ended(request, channel, key)
    if request.method != "POST":
        form = EditKeyForm.filled(request, channel, key)
        return _render(request, member, channel, form, key=key)
    form = EditKeyForm(request, channel, request.POST, stored=api_keys.terms_of(key))
    if not form.is_valid():
        return _render(request, member, channel, form, key=key, status=422)
    try:
        api_keys.update_api_key(
            api_key=key,
            terms=form.terms(),
            actor=member.actor,
            expected_digest=form.cleaned_data["digest"],
            may_exclude_latest=form.cleaned_data["confirmed"],
        )
    except KeyNotActive:
        return _tell_ended(request, channel, key)
    except ChannelChanged:
        return _render_conflict(request, member, channel, key)
    except ExcludesLatestCaller as refusal:
        form.ask_to_exclude(refusal)
        return _render(request, member, channel, form, key=key, status=422)
    except ValidationError as error:
        add_errors(form, error)
        return _render(request, member, channel, form, key=key, status=422)
    messages.success(request, _("Saved. Changes apply to the next request."))
    _warn_of_model(request, channel, form.terms())
    return redirect("console:keys", channel.id)


def _tell_ended(request: HttpRequest, channel: Channel, key: ApiKey) -> HttpResponse:
    words = _("%(key)s no longer works, so it cannot be changed.")
    messages.error(request, words % {"key": key.masked})
    return redirect("console:keys", channel.id)


def _render_conflict(
    request: HttpRequest, member: Member, channel: Channel, key: ApiKey
) -> HttpResponse:
    """Show the person's input beside what somebody else saved. Saving again replaces that."""
    key = get_key(channel, key.id)
    theirs = EditKeyForm.filled(request, channel, key)
    data = request.POST.copy()
    data["digest"] = theirs["digest"].value()
    form = EditKeyForm(request, channel, data, stored=api_keys.terms_of(key))
    form.add_error(
        None, words_of_conflict(channel, "key.updated", target=f"{key.masked} ({key.mode})")
    )
    differences = list_differences(theirs, form)
    return _render(request, member, channel, form, key=key, status=409, differences=differences)


_KEYS = "channels/<uuid:channel_id>/keys"
urlpatterns = [
    path(f"{_KEYS}/new/", new_key, name="new_key"),
    path(f"{_KEYS}/<uuid:key_id>/edit/", edit_key, name="edit_key"),
]
