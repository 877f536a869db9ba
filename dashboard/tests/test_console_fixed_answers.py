"""Saved replies: added once, changed, deleted, and tried out as visitors would get them."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from channels import fixed_answers as services
from channels.audit import COMMAND_LINE
from channels.errors import ChannelChanged
from channels.models import AuditEntry, FixedAnswer
from channels.tests.factories import Site, save_reply
from conversations.usage.saved_reply_hits import list_hits
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


def test_other_wordings_are_written_one_on_a_line(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = owner_client(site)
    form = {"question": "When are you open?", "answer": "9 to 5."}
    form["wordings"] = "Opening hours\r\n\r\n  when are you OPEN  \r\nOpen today?\r\n"
    for _ in range(2):
        assert client.post(page_of(site, PAGE + "add/"), form).status_code == 302
    saved = FixedAnswer.objects.get()
    assert services.list_wordings(saved) == ["When are you open?", "Opening hours", "Open today?"]
    assert api.chat("open today").json()["reply"] == "9 to 5."
    page = client.get(page_of(site, PAGE), {"try": "opening HOURS"}).content.decode()
    assert "It matches the wording “Opening hours”." in page
    assert "This account has 1 of at most 5,000 saved replies" in page
    edit = client.get(one(site, saved))
    assert edit.context["form"]["wordings"].value() == "Opening hours\nOpen today?"
    form |= {"wordings": "Open today?", "digest": services.digest_of(saved)}
    assert client.post(one(site, saved), form).status_code == 302
    assert services.list_wordings(FixedAnswer.objects.get())[1:] == ["Open today?"]
    changes = AuditEntry.objects.get(action="fixed_answer.updated").changes
    assert changes == {"other_wordings": ["Opening hours\nOpen today?", "Open today?"]}
    assert api.chat("opening hours").json()["reply"] == "Reply 1"


@pytest.mark.parametrize(
    ("wordings", "words"),
    [
        ("Where is it\nThat", "The saved reply “Where?” already answers “Where is it”."),
        ("x" * 501, "has 501 characters. Use at most 500."),
        ("?!", "“?!” needs at least one letter or digit."),
        ("\n".join(f"Wording {n}" for n in range(20)), "at most 20 wordings"),
    ],
)
def test_a_wrong_wording_is_explained_beside_the_field(
    site: Site, wordings: str, words: str
) -> None:
    save_reply(site.channel, "Where?", "Here.", "Where is it?")
    other = add(site)
    client = owner_client(site)
    form = {"question": "New?", "answer": "a", "wordings": wordings}
    form["digest"] = services.digest_of(other)
    for address in (page_of(site, PAGE + "add/"), one(site, other)):
        response = client.post(address, form)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == ["wordings"]
        assert words in response.context["form"].errors["wordings"][0]
    assert FixedAnswer.objects.count() == 2


def test_wordings_of_another_are_a_conflict_too(site: Site) -> None:
    answer = add(site)
    client = owner_client(site)
    digest = client.get(one(site, answer)).context["form"]["digest"].value()
    services.update_fixed_answer(
        fixed_answer=answer,
        question=answer.question,
        answer=answer.answer,
        wordings=["Theirs"],
        actor=COMMAND_LINE,
    )
    form = {"question": answer.question, "answer": answer.answer, "wordings": "Mine"}
    response = client.post(one(site, answer), form | {"digest": digest})
    assert response.status_code == 409
    (both,) = response.context["differences"]
    assert both.label == "Other wordings"
    assert services.list_wordings(FixedAnswer.objects.get())[1:] == ["Theirs"]


def test_hits_are_counted_for_visitors_alone(
    site: Site, stranger: Site, provider: FakeProvider, clock: Any
) -> None:
    mine, other = add(site), add(site, "Where?", "Here.")
    add(stranger)
    api = ApiClient(site.api_key)
    api.chat("When are you open?")
    clock.shift(31 * 86_400)
    for number in range(3):
        api.chat("when are you open", session_id=f"s{number}")
    ApiClient(site.test_key).chat("When are you open?")
    ApiClient(stranger.api_key).chat("When are you open?")
    api.chat("Something else")
    page = owner_client(site).get(page_of(site, PAGE))
    hits = {one.id: found for one, _, found in page.context["rows"]}
    assert (hits[mine.id].count, hits[mine.id].last_at) == (3, timezone.now())
    assert (hits[other.id].count, hits[other.id].last_at) == (0, None)
    clock.shift(31 * 86_400)
    found = list_hits([mine.id], now=timezone.now())[mine.id]
    assert found.count == 0
    assert found.last_at is not None


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
    # Among them one for all wordings, one for all hits, and one for the limit.
    with django_assert_max_num_queries(13):
        page = client.get(page_of(site, PAGE + "?q=question&try=question+3"))
    assert len(page.context["page"].object_list) == 50
