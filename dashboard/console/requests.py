"""The request log of an account: each request, its outcome, and its cost; also as CSV."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.models import Account, Channel
from channels.models.channel import mask_key
from common.days import day_of
from common.db.plans import snapshot
from common.money import format_credits
from common.pages.forms import LongSelect
from common.pages.numbers import local_credits
from common.pages.spreadsheets import lines
from conversations.usage import request_log, request_tally
from conversations.usage.reports import Scope
from conversations.usage.request_filter import Kind, RequestFilter
from conversations.usage.request_log import Entry, LogPage, Place
from conversations.usage.request_tally import Tally
from dashboard.console import draft_log
from dashboard.console.access import Member, channel_page, member_page
from dashboard.console.downloads import download
from dashboard.console.filters import MomentsForm, model_choices, read_model_names, with_chosen
from dashboard.console.navigation import url_within
from dashboard.console.pages import render_page
from dashboard.console.request_links import OUTCOMES
from dashboard.console.trials import find_trials
from dashboard.reference.facts import ERRORS

MOST_CODE_CHARACTERS = 50
# The page of a request of each kind.
DETAILS = {Kind.REPLY: "request", Kind.FAILURE: "failed_request", Kind.REPLAY: "replayed_request"}


@dataclass(frozen=True, slots=True)
class KeyName:
    """What a key is called: its own name, if it has one, its masked form, and its channel."""

    name: str
    masked: str
    channel: str

    @property
    def exact(self) -> str:
        return f"{self.masked} ({self.channel})"


class RequestsForm(MomentsForm):
    """The filters of the log. Empty ones do not filter."""

    q = forms.CharField(
        required=False, max_length=200, label=gettext_lazy("Request or message id"), strip=True
    )
    outcome = forms.ChoiceField(required=False, label=gettext_lazy("Outcome"))
    code = forms.ChoiceField(required=False, label=gettext_lazy("Error code"))
    model = forms.ChoiceField(required=False, label=gettext_lazy("Model"))
    key = forms.ChoiceField(required=False, label=gettext_lazy("Key"), widget=LongSelect)
    conversation = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        label=gettext_lazy("Conversation number"),
    )
    slower = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=10_000_000,
        label=gettext_lazy("Took at least (ms)"),
    )
    page = forms.CharField(
        required=False, max_length=2048, label=gettext_lazy("Page begins with"), strip=True
    )
    # Links from figures of one page set it.
    whole_page = forms.BooleanField(required=False, label=gettext_lazy("The whole page address"))
    usual = ("q", "since", "until", "channel", "outcome")
    field_order = (
        "q", "since", "until", "channel", "outcome", "code", "model", "traffic", "key",
        "conversation", "slower", "page", "whole_page",
    )  # fmt: skip

    def __init__(
        self, data: QueryDict, *, account: Account, channel: Channel | None = None
    ) -> None:
        super().__init__(data, account=account, channel=channel)
        self.model_names = read_model_names()
        codes = with_chosen(
            {code: code for code in sorted(row.code for row in ERRORS)},
            data.get("code", ""),
            most=MOST_CODE_CHARACTERS,
        )
        choices = {
            "outcome": [("", _("All outcomes")), *((one, OUTCOMES[one][0]) for one in OUTCOMES)],
            "code": [("", _("All codes")), *codes],
            "model": model_choices(self.model_names, data.get("model", "")),
            "key": [("", _("All keys")), *self.key_choices],
        }
        for name, of_field in choices.items():
            self.fields[name].choices = of_field  # type: ignore[attr-defined]

    def read_channels(self, channels: QuerySet[Channel]) -> dict[uuid.UUID, str]:
        """Return the names of the channels. Reads the names of their keys too."""
        rows = channels.order_by("name", "id", "-api_keys__created_at").values_list(
            "id",
            "name",
            "api_keys",
            "api_keys__name",
            "api_keys__key_prefix",
            "api_keys__key_last_four",
        )
        names: dict[uuid.UUID, str] = {}
        self.key_names: dict[uuid.UUID, KeyName] = {}
        self.key_choices: list[tuple[str, str]] = []
        for channel_id, name, key_id, own_name, prefix, last_four in rows:
            names[channel_id] = name
            if key_id is not None:
                key = KeyName(own_name, mask_key(prefix, last_four), name)
                self.key_names[key_id] = key
                words = f"{key.name}, {key.exact}" if key.name else key.exact
                self.key_choices.append((str(key_id), words))
        return names

    @property
    def reference(self) -> str:
        """The id to look up, whatever its time, and for both test and live keys."""
        return self.value("q") or ""

    @property
    def asks_for_some(self) -> bool:
        """Whether a filter leaves out requests that usage pages would show."""
        names = ("outcome", "code", "key", "conversation", "slower")
        return any(self.value(name) for name in names)

    def chosen(self, account: Account) -> RequestFilter:
        starts_at, ends_at = self.period(timezone.now())
        key = self.value("key")
        return RequestFilter(
            account_id=account.id,
            starts_at=starts_at,
            ends_at=ends_at,
            is_test=self.is_test,
            channel_id=self.channel_id,
            outcome=self.value("outcome") or "",
            error_code=self.value("code") or "",
            model_id=self.value("model") or "",
            api_key_id=uuid.UUID(key) if key else None,
            session_pk=self.value("conversation"),
            page_url=self.value("page") or "",
            is_whole_page=bool(self.value("whole_page")),
            least_ms=self.value("slower") or 0,
        )


@member_page()
def requests(request: HttpRequest, member: Member) -> HttpResponse:
    """List requests, newest first."""
    return _render_log(request, member)


@channel_page()
def channel_requests(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """List the requests of one channel, as a tab of it."""
    return _render_log(request, member, channel)


def _render_log(
    request: HttpRequest, member: Member, channel: Channel | None = None
) -> HttpResponse:
    form = RequestsForm(request.GET, account=member.account, channel=channel)
    form.is_valid()
    chosen = form.chosen(member.account)
    after = Place.parse(request.GET.get("after", ""))
    tally, page = _read(form, chosen, after)
    if (
        form.reference
        and not page.entries
        and draft_log.find_by_reference(member.account, form.reference).exists()
    ):
        return redirect(f"{member.url('drafts')}?{urlencode({'q': form.reference})}")
    trials = None
    if not (page.entries or after or chosen.is_test or form.reference or form.asks_for_some):
        trials = find_trials(_scope(chosen))
    return render_page(
        request,
        member,
        "requests.html",
        title=_("Requests"),
        channel=channel,
        log_url=url_within(member, channel, "requests"),
        form=form,
        ranges=form.tabs_of((chosen.starts_at, chosen.ends_at)),
        starts_at=chosen.starts_at,
        ends_at=chosen.ends_at,
        is_test=chosen.is_test,
        tally=tally,
        page=page,
        rows=[describe(member, form, entry) for entry in page.entries],
        query=form.query(),
        next_query=form.query(after=str(page.following)) if page.following else "",
        is_first=after is None,
        looked_at=request_log.LOOKED_AT_ONCE,
        most_counted=request_tally.MOST_COUNTED,
        trials=trials,
        test_query=form.query(traffic="test"),
    )


def _read(
    form: RequestsForm, chosen: RequestFilter, after: Place | None
) -> tuple[Tally | None, LogPage]:
    """Return the figures and a page of the log. An id is looked up without counting."""
    if form.reference:
        found = request_log.find_by_reference(
            account_id=chosen.account_id, channel_id=chosen.channel_id, reference=form.reference
        )
        return None, LogPage(found)
    # In one snapshot, so that the figures count exactly the list.
    with snapshot():
        tally = request_tally.tally_requests(chosen)
        return tally, request_log.list_requests(chosen, tally, after=after)


def _scope(chosen: RequestFilter) -> Scope:
    return Scope(
        account_id=chosen.account_id,
        starts_at=chosen.starts_at,
        ends_at=chosen.ends_at,
        channel_id=chosen.channel_id,
        model_id=chosen.model_id,
        page_url=chosen.page_url,
    )


def describe(member: Member, form: RequestsForm, entry: Entry) -> dict[str, Any]:
    """Return a request as a page shows it."""
    row = entry.row
    name, badge = OUTCOMES[entry.outcome]
    return {
        "entry": entry,
        "row": row,
        "short_id": _shortened(row.request_id),
        "reply": entry.reply,
        "outcome": name,
        "badge": badge,
        "url": member.url(DETAILS[entry.kind], row.pk),
        "channel_name": form.channel_names.get(row.channel_id, ""),
        "model_name": form.model_names.get(row.request_model, row.request_model),
        "key": form.key_names.get(row.api_key_id) if row.api_key_id else None,
        "credits": local_credits(entry.reply.charged_microcredits) if entry.reply else "0",
    }


def _shortened(request_id: str) -> str:
    """Return the id's beginning and end: people compare them, and copy the whole."""
    return request_id if len(request_id) <= 16 else f"{request_id[:8]}…{request_id[-4:]}"


# --- Downloads ----------------------------------------------------------------------------------

_COLUMNS = (
    "created_at_utc", "channel", "channel_id", "session_id", "request_id", "message_id", "key",
    "outcome", "error", "reason", "model", "provider", "page", "input_tokens", "output_tokens",
    "credits", "duration_ms", "prompt_version",
)  # fmt: skip


@member_page()
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Send every request that the filters find, newest first."""
    form = RequestsForm(request.GET, account=member.account)
    if not form.is_valid() or form.reference:
        raise Http404
    chosen = form.chosen(member.account)
    name = f"requests-{day_of(chosen.starts_at, form.zone)}.csv"
    return download(csv_of(chosen, form), name=name, content_type="text/csv")


def csv_of(chosen: RequestFilter, form: RequestsForm) -> Iterator[str]:
    """Yield the requests as a CSV file. The form knows the names of channels and keys."""
    return lines(_COLUMNS, _csv_rows(chosen, form))


def _csv_rows(chosen: RequestFilter, form: RequestsForm) -> Iterator[tuple[Any, ...]]:
    for entry, page_url in request_log.iterate_requests(chosen):
        row, reply = entry.row, entry.reply
        session = (reply.session.session_id if reply.session else "") if reply else row.session_id
        yield (
            f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            form.channel_names.get(row.channel_id, ""),
            str(row.channel_id),
            session,
            row.request_id,
            str(reply.id if reply else getattr(row, "message_id", None) or ""),
            form.key_names[row.api_key_id].exact if row.api_key_id in form.key_names else "",
            entry.outcome,
            entry.error_code,
            entry.reason,
            row.request_model,
            reply.provider_name if reply else "",
            page_url,
            reply.input_tokens if reply else 0,
            reply.output_tokens if reply else 0,
            format_credits(reply.charged_microcredits if reply else 0),
            entry.duration_ms,
            reply.prompt_version if reply else None,
        )


urlpatterns = [
    path("requests/", requests, name="requests"),
    path("requests/export.csv", export, name="requests_csv"),
    path("channels/<uuid:channel_id>/requests/", channel_requests, name="channel_requests"),
]
