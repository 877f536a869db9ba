"""Saved replies are unique by their normalized question, even if two are added at once."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from channels import fixed_answers
from channels.audit import COMMAND_LINE
from channels.models import AuditEntry, FixedAnswer
from channels.tests.factories import Site, make_site
from tests.support.threads import run_in_threads


@pytest.mark.django_db(transaction=True)
def test_of_the_same_question_at_once_one_is_added() -> None:
    channel = make_site().channel

    def add(number: int) -> Any:
        try:
            return fixed_answers.add_fixed_answer(
                channel=channel, question="When?", answer=str(number), actor=COMMAND_LINE
            )
        except ValidationError as error:
            return error

    results = run_in_threads(add, 6)
    refused = [one for one in results if isinstance(one, ValidationError)]
    assert len(refused) == 5
    assert {str(one.message_dict) for one in refused} == {
        "{'question': ['The saved reply “When?” already answers “When?”.']}"
    }
    assert FixedAnswer.objects.count() == 1
    assert AuditEntry.objects.filter(action="fixed_answer.added").count() == 1


@pytest.mark.django_db
def test_channels_do_not_share_answers(site: Site, stranger: Site) -> None:
    fixed_answers.add_fixed_answer(
        channel=stranger.channel, question="When?", answer="Now", actor=COMMAND_LINE
    )
    assert fixed_answers.find_match(channel=site.channel, text="when") is None
    assert fixed_answers.find_match(channel=stranger.channel, text="when") is not None
