"""Saved replies of a channel, which visitors get without the AI and free of charge."""

from __future__ import annotations

from collections.abc import Sequence

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import fixed_answers as services
from channels import limits
from channels.errors import ChannelChanged
from channels.models import LONGEST_QUESTION, LONGEST_SAVED_REPLY, Channel, FixedAnswer, Wording
from common.pages.forms import PlainForm
from common.pages.requests import post_only, read_term
from common.text import normalize_question
from conversations.usage.saved_reply_hits import DAYS as HIT_DAYS
from conversations.usage.saved_reply_hits import list_hits
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.channel_forms import Difference, PlainText, list_differences
from dashboard.console.channels import add_errors, words_of_conflict
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page

ANSWERS_PER_PAGE = 50


class FixedAnswerForm(PlainForm):
    """A question, other ways to ask it, and the answer."""

    question = forms.CharField(
        label=gettext_lazy("Question"),
        max_length=LONGEST_QUESTION,
        help_text=gettext_lazy(
            "As a visitor would type it. Case, accents, punctuation and extra spaces do not "
            "matter; all the words do."
        ),
    )
    wordings = PlainText(
        label=gettext_lazy("Other wordings"),
        required=False,
        max_length=(LONGEST_QUESTION + 1) * services.MOST_WORDINGS,
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
        help_text=format_lazy(
            gettext_lazy(
                "One on each line. Each gets the same answer. A reply has at most {most} wordings, "
                "its question among them."
            ),
            most=services.MOST_WORDINGS,
        ),
    )
    answer = PlainText(
        label=gettext_lazy("Answer"),
        max_length=LONGEST_SAVED_REPLY,
        widget=forms.Textarea(attrs={"rows": 4, "dir": "auto", "data-count": "#answer-count"}),
    )

    def clean_wordings(self) -> list[str]:
        """Return the lines that are not empty."""
        lines = self.cleaned_data["wordings"].split("\n")
        return [line.strip() for line in lines if line.strip()]


class EditForm(FixedAnswerForm):
    """The form for an existing reply, with a digest of what was stored when the page was opened."""

    digest = forms.CharField(widget=forms.HiddenInput, max_length=64)

    @classmethod
    def filled(cls, stored: FixedAnswer) -> EditForm:
        digest = services.digest_of(stored)
        values = {"question": stored.question, "answer": stored.answer, "digest": digest}
        others = services.list_wordings(stored)[1:]
        return cls(initial=values | {"wordings": "\n".join(others)})


@channel_page()
def fixed_answers(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """List the saved replies, with a search and a box to try a question."""
    return _render_list(request, member, channel, FixedAnswerForm())


@channel_page(needs=Role.EDITOR)
@post_only
def add_answer(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Add a saved reply. Sending the same one twice adds it once."""
    form = FixedAnswerForm(request.POST)
    if form.is_valid():
        try:
            services.add_fixed_answer(channel=channel, actor=member.actor, **form.cleaned_data)
        except ValidationError as error:
            add_errors(form, error)
        else:
            messages.success(request, _("Added. The next visitor who asks this gets the reply."))
            return redirect("console:fixed_answers", channel.id)
    return _render_list(request, member, channel, form, status=422)


def _render_list(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    form: FixedAnswerForm,
    *,
    status: int = 200,
) -> HttpResponse:
    search, tried = read_term(request, "q"), read_term(request, "try", most=2_000)
    answers = FixedAnswer.objects.filter(channel=channel).order_by("question", "id")
    if search:
        answers = answers.filter(_matches(channel, search))
    answers = answers.prefetch_related("wordings")
    page = Paginator(answers, ANSWERS_PER_PAGE).get_page(request.GET.get("page"))
    hits = list_hits([one.id for one in page], now=timezone.now())
    bound = limits.SAVED_REPLIES
    return render_page(
        request,
        member,
        "fixed_answers.html",
        title=_("Saved replies"),
        channel=channel,
        form=form,
        page=page,
        rows=[(one, services.list_wordings(one)[1:], hits.get(one.id)) for one in page],
        hit_days=HIT_DAYS,
        have=bound.count(channel.account_id),
        most=bound.most(channel.account),
        query=urlencode({"q": search}) if search else "",
        search=search,
        tried=tried,
        match=services.find_match(channel=channel, text=tried) if tried else None,
        status=status,
    )


def _matches(channel: Channel, search: str) -> Q:
    found = Q(question__icontains=search) | Q(answer__icontains=search)
    wordings = Q(text__icontains=search)
    normalized = normalize_question(search)
    if normalized:
        wordings |= Q(normalized__contains=normalized)
    # Not a join, which would show a reply once for each wording.
    return found | Q(
        id__in=Wording.objects.filter(wordings, channel=channel).values("fixed_answer_id")
    )


# --- One answer -----------------------------------------------------------------------------------


def _get_answer(channel: Channel, answer_id: int) -> FixedAnswer:
    """Return a saved reply of this channel. Raises Http404 for every other."""
    answers = FixedAnswer.objects.select_related("channel")
    answer = answers.filter(channel=channel, id=answer_id).first()
    if answer is None:
        raise Http404
    return answer


@channel_page(needs=Role.EDITOR)
def edit_answer(
    request: HttpRequest, member: Member, channel: Channel, answer_id: int
) -> HttpResponse:
    """Change a saved reply, unless somebody else has since the page was opened."""
    stored = _get_answer(channel, answer_id)
    if request.method != "POST":
        return _render_one(request, member, channel, answer_id, EditForm.filled(stored))
    form = EditForm(request.POST)
    if not form.is_valid():
        return _render_one(request, member, channel, answer_id, form, status=422)
    data = form.cleaned_data
    try:
        services.update_fixed_answer(
            fixed_answer=stored,
            actor=member.actor,
            expected_digest=data["digest"],
            question=data["question"],
            wordings=data["wordings"],
            answer=data["answer"],
        )
    except ChannelChanged:
        return _render_conflict(request, member, channel, answer_id)
    except ValidationError as error:
        add_errors(form, error)
        return _render_one(request, member, channel, answer_id, form, status=422)
    messages.success(request, _("Saved. The next visitor who asks this gets the reply."))
    return redirect("console:fixed_answers", channel.id)


def _render_conflict(
    request: HttpRequest, member: Member, channel: Channel, answer_id: int
) -> HttpResponse:
    """Show the person's input beside what somebody else saved. Saving again replaces that."""
    stored = _get_answer(channel, answer_id)
    theirs = EditForm.filled(stored)
    data = request.POST.copy()
    data["digest"] = theirs["digest"].value()
    form = EditForm(data)
    words = words_of_conflict(channel, "fixed_answer.updated", target=stored.question[:200])
    form.add_error(None, words)
    differences = list_differences(theirs, form)
    return _render_one(
        request, member, channel, answer_id, form, status=409, differences=differences
    )


def _render_one(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    answer_id: int,
    form: EditForm,
    *,
    status: int = 200,
    differences: Sequence[Difference] = (),
) -> HttpResponse:
    return render_page(
        request,
        member,
        "fixed_answer.html",
        title=_("Saved reply"),
        channel=channel,
        form=form,
        differences=differences,
        theirs_url=console_url("fixed_answer", channel.id, answer_id),
        status=status,
    )


@channel_page(needs=Role.EDITOR)
@post_only
def delete_answer(
    request: HttpRequest, member: Member, channel: Channel, answer_id: int
) -> HttpResponse:
    """Delete a saved reply."""
    stored = _get_answer(channel, answer_id)
    services.delete_fixed_answer(fixed_answer=stored, actor=member.actor)
    words = _("Deleted: “%(question)s”. The AI answers this question again.")
    messages.success(request, words % {"question": stored.question})
    return redirect("console:fixed_answers", channel.id)


_ANSWERS = "channels/<uuid:channel_id>/own-answers"
urlpatterns = [
    path(f"{_ANSWERS}/", fixed_answers, name="fixed_answers"),
    path(f"{_ANSWERS}/add/", add_answer, name="add_fixed_answer"),
    path(f"{_ANSWERS}/<int:answer_id>/", edit_answer, name="fixed_answer"),
    path(f"{_ANSWERS}/<int:answer_id>/delete/", delete_answer, name="delete_fixed_answer"),
]
