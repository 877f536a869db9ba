"""The saved replies of an older installation keep their questions, as their first wordings."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from channels import fixed_answers
from channels.tests.factories import make_site, save_reply

BEFORE = ("channels", "0034_outages_and_digests")


@pytest.mark.django_db(transaction=True)
def test_replies_go_through_the_migrations_and_back() -> None:
    channel = make_site().channel
    save_reply(channel, "¿Qué horario?", "9 to 5.", "Hours")
    executor = MigrationExecutor(connection)
    newest = executor.loader.graph.leaf_nodes()
    try:
        executor.migrate([BEFORE])
        old = executor.loader.project_state([BEFORE]).apps.get_model("channels", "FixedAnswer")
        row = old.objects.get()
        assert (row.question, row.question_normalized) == ("¿Qué horario?", "que horario")
        old.objects.create(
            channel_id=channel.id, question="Where?", question_normalized="where", answer="Here."
        )
    finally:
        MigrationExecutor(connection).migrate(newest)
    for text, answer in (("que horario", "9 to 5."), ("where", "Here.")):
        found = fixed_answers.find_match(channel=channel, text=text)
        assert found is not None
        assert found.answer == answer
        assert fixed_answers.list_wordings(found) == [found.question]
    assert fixed_answers.find_match(channel=channel, text="hours") is None
