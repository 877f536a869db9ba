"""Saved replies: added once, changed, deleted, and tried out as visitors would get them."""

from __future__ import annotations

from typing import Any

import pytest

from channels import fixed_answers as services
from channels.audit import COMMAND_LINE
from channels.errors import ChannelChanged
from channels.models import AuditEntry, FixedAnswer
from channels.tests.factories import Site
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    assert_same_404,
    member_client,
    owner_client,
    page_of,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db
PAGE = "own-answers/"


def add(site: Site, question: str = "When are you open?", answer: str = "9 to 5.") -> FixedAnswer:
    return services.add_fixed_answer(
        channel=site.channel, question=question, answer=answer, actor=COMMAND_LINE
    )[0]


def one(site: Site, answer: FixedAnswer, name: str = "") -> str:
    return page_of(site, f"{PAGE}{answer.id}/{name}")


def test_an_added_answer_is_what_visitors_get_free(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = member_client(site, "editor")
    form = {"question": "When are you open?", "answer": "9 to 5.\r\nNot on Sundays."}
    for _ in range(2):
        assert client.post(page_of(site, PAGE + "add/"), form).status_code == 302
    assert FixedAnswer.objects.count() == 1
    reply = api.chat("  WHEN are you open").json()
    assert (reply["reply"], reply["credits"]["charged"]) == ("9 to 5.\nNot on Sundays.", "0.000000")
    entry = AuditEntry.objects.get(action="fixed_answer.added")
    assert (entry.target, entry.channel_id) == ("When are you open?", site.channel.id)


@pytest.mark.parametrize(
    "tried", ["when are YOU open", "¡When are you open!", "When  are you open?"]
)
def test_the_box_says_which_question_matches(site: Site, tried: str) -> None:
    add(site)
    page = owner_client(site).get(page_of(site, PAGE), {"try": tried}).content.decode()
    assert "Your saved reply" in page
    assert "It matches the question “When are you open?”." in page


@pytest.mark.parametrize("tried", ["When do you open?", "???", "open"])
def test_the_box_says_when_the_ai_answers(site: Site, tried: str) -> None:
    add(site)
    page = owner_client(site).get(page_of(site, PAGE), {"try": tried}).content.decode()
    assert "The AI answers" in page


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"question": "", "answer": "a"}, "question"),
        ({"question": "???", "answer": "a"}, "question"),
        ({"question": "q" * 501, "answer": "a"}, "question"),
        ({"question": "when ARE you open", "answer": "other"}, "question"),
        ({"question": "q", "answer": ""}, "answer"),
        ({"question": "q", "answer": "a" * 8_001}, "answer"),
        ({"question": "q\x00", "answer": "a"}, "question"),
    ],
)
def test_a_wrong_field_is_named_beside_it(site: Site, form: dict[str, str], field: str) -> None:
    add(site)
    other = add(site, "Where?", "Here.")
    client = owner_client(site)
    digest = {"digest": services.digest_of(other)}
    for address in (page_of(site, PAGE + "add/"), one(site, other)):
        response = client.post(address, form | digest)
        assert response.status_code == 422
        assert set(response.context["form"].errors) == {field}
    assert set(FixedAnswer.objects.values_list("answer", flat=True)) == {"9 to 5.", "Here."}


def test_an_answer_is_changed_and_deleted_with_an_entry_each(site: Site) -> None:
    answer, client = add(site), owner_client(site)
    assert "9 to 5." in client.get(one(site, answer)).content.decode()
    form = {"question": "When are you open?", "answer": "10 to 4."}
    form["digest"] = services.digest_of(answer)
    for _ in range(2):
        assert client.post(one(site, answer), form).status_code == 302
    entry = AuditEntry.objects.get(action="fixed_answer.updated")
    assert entry.changes == {"answer": ["9 to 5.", "10 to 4."]}
    assert client.get(one(site, answer, "delete/"))["Location"] == one(site, answer)
    assert client.post(one(site, answer, "delete/")).status_code == 302
    assert client.post(one(site, answer, "delete/")).status_code == 404
    assert FixedAnswer.objects.count() == 0
    assert AuditEntry.objects.filter(action="fixed_answer.deleted").count() == 1


def test_a_save_on_top_of_anothers_is_refused(site: Site) -> None:
    answer = add(site)
    client, editor = owner_client(site), member_client(site, "editor")
    digest = client.get(one(site, answer)).context["form"]["digest"].value()
    form = {"question": answer.question, "digest": digest}
    assert editor.post(one(site, answer), form | {"answer": "Theirs"}).status_code == 302
    response = client.post(one(site, answer), form | {"answer": "Mine"})
    assert response.status_code == 409
    page = response.content.decode()
    assert "editor@example.com saved it" in page
    assert "Theirs and yours" in page
    assert ">\nMine</textarea>" in page
    assert FixedAnswer.objects.get().answer == "Theirs"
    # Both are shown side by side, and saving again keeps the person's own text.
    (both,) = response.context["differences"]
    assert [line.parts[0][0] for line in (*both.theirs, *both.yours)] == ["Theirs", "Mine"]
    form["digest"] = response.context["form"]["digest"].value()
    assert client.post(one(site, answer), form | {"answer": "Mine"}).status_code == 302
    assert FixedAnswer.objects.get().answer == "Mine"


def test_a_save_of_what_another_deleted_is_refused(site: Site) -> None:
    answer = add(site)
    stored = FixedAnswer.objects.get()
    services.delete_fixed_answer(fixed_answer=answer, actor=COMMAND_LINE)
    with pytest.raises(ChannelChanged):
        services.update_fixed_answer(
            fixed_answer=stored, question="When?", answer="Mine.", actor=COMMAND_LINE
        )
    assert not FixedAnswer.objects.exists()


def test_answers_are_found_by_question_and_text(site: Site) -> None:
    add(site)
    add(site, "Wo ist das Café?", "<b>Main Street</b>")
    client = owner_client(site)
    for query, expected in (
        ("cafe", 1),
        ("main", 1),
        ("OPEN", 1),
        ("zzz", 0),
        ("", 2),
        ("%", 0),
        ("\x00", 2),
    ):
        page = client.get(page_of(site, PAGE), {"q": query})
        assert len(page.context["page"].object_list) == expected, query
    assert "&lt;b&gt;Main" in client.get(page_of(site, PAGE)).content.decode()


def test_viewers_and_guests_read_and_change_nothing(site: Site) -> None:
    answer = add(site)
    for client in (member_client(site, "viewer"), staff_guest(site)):
        page = client.get(page_of(site, PAGE)).content.decode()
        assert "9 to 5." in page
        assert "Add a saved reply" not in page
        form = {"question": "q", "answer": "a"}
        for address in (
            page_of(site, PAGE + "add/"),
            one(site, answer),
            one(site, answer, "delete/"),
        ):
            assert client.post(address, form).status_code == 403
        assert client.get(one(site, answer)).status_code == 403
    assert FixedAnswer.objects.get().answer == "9 to 5."


def test_a_strangers_answers_are_unknown(site: Site, stranger: Site) -> None:
    theirs, mine = add(site), add(stranger)
    client = owner_client(stranger)
    for name in ("", "delete/"):
        paths = [page_of(stranger, f"{PAGE}{pk}/{name}") for pk in (mine.id, theirs.id, 10**12)]
        assert_same_404(client, *paths, question="x", answer="x")
        assert client.post(page_of(stranger, f"{PAGE}{10**30}/{name}")).status_code == 404
        unknown = f"/channels/{UNKNOWN}/{PAGE}{theirs.id}/{name}"
        assert_same_404(client, "", one(site, theirs, name), unknown, question="x")
    for rest in (PAGE, PAGE + "?q=open", PAGE + "?try=When+are+you+open"):
        assert_same_404(client, "", page_of(site, rest), f"/channels/{UNKNOWN}/{rest}")
    page = client.get(page_of(stranger, PAGE)).content.decode()
    assert f"{PAGE}{theirs.id}/" not in page
    assert FixedAnswer.objects.count() == 2


def test_the_page_takes_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    for number in range(60):
        add(site, f"Question {number}", "Answer")
    client = owner_client(site)
    client.get(page_of(site, PAGE))
    with django_assert_max_num_queries(10):
        page = client.get(page_of(site, PAGE + "?q=question&try=question+3"))
    assert len(page.context["page"].object_list) == 50
