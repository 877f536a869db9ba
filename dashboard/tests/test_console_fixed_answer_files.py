"""Saved replies from a CSV file: previewed, saved as a whole or not at all, downloaded again."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from channels import fixed_answers, limits
from channels.audit import COMMAND_LINE
from channels.models import AuditEntry, FixedAnswer, Plan
from channels.tests.factories import Site, save_reply
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    assert_same_404,
    member_client,
    owner_client,
    page_of,
    staff_guest,
)

pytestmark = pytest.mark.django_db
# 20 each, in a little over 1,000 rows.
MANY_WORDINGS = b"question,answer" + b",wording" * 19 + b"\n"
MANY_WORDINGS += b"".join(
    b"q%d,a," % row + b",".join(b"w%d-%d" % (row, number) for number in range(19)) + b"\n"
    for row in range(1_001)
)
UPLOAD = "own-answers/upload/"
FILE = "own-answers/saved-replies.csv"


def upload(site: Site, content: str | bytes, client: Client | None = None) -> Any:
    data = content.encode() if isinstance(content, str) else content
    file = SimpleUploadedFile("replies.csv", data, content_type="text/csv")
    return (client or owner_client(site)).post(page_of(site, UPLOAD), {"file": file})


def save(site: Site, preview: Any, client: Client | None = None) -> Any:
    """Press the preview's button."""
    form = {"content": preview.context["content"], "digest": preview.context["plan"].digest}
    return (client or owner_client(site)).post(page_of(site, UPLOAD + "save/"), form)


def stored(site: Site) -> dict[str, tuple[str, ...]]:
    """Return the answer and the wordings of each reply, by its question."""
    replies = FixedAnswer.objects.filter(channel=site.channel)
    return {one.question: (one.answer, *fixed_answers.list_wordings(one)[1:]) for one in replies}


def counts(preview: Any) -> tuple[int, int, int, int]:
    plan = preview.context["plan"]
    return len(plan.new), len(plan.changed), plan.unchanged, plan.missing


def flaws(preview: Any) -> list[tuple[int, str]]:
    return [(flaw.line, flaw.words) for flaw in preview.context["plan"].flaws]


def download(site: Site, name: str = FILE, client: Client | None = None) -> bytes:
    response: Any = (client or owner_client(site)).get(page_of(site, name))
    assert response.status_code == 200
    return b"".join(response.streaming_content)


def test_a_file_is_previewed_and_then_saved(site: Site, api: ApiClient) -> None:
    save_reply(site.channel, "Open?", "9 to 5.", "Opening hours")
    save_reply(site.channel, "Where?", "Here.")
    save_reply(site.channel, "Who?", "We.")
    client = member_client(site, "editor")
    preview = upload(
        site,
        "question,answer,wording 2\r\n"
        "Open?,10 to 4.,Opening hours\r\n"
        "Where?,Here.,\r\n"
        '"How, ""exactly""?","Two\r\nlines.",How come\r\n',
        client,
    )
    assert (preview.status_code, counts(preview)) == (200, (1, 1, 1, 1))
    page = preview.content.decode()
    assert "1 new, 1 changed, 1 unchanged." in page
    assert "1 saved reply is not in the file and stays." in page
    assert stored(site)["Open?"] == ("9 to 5.", "Opening hours")
    assert save(site, preview, client).status_code == 302
    assert stored(site) == {
        "Open?": ("10 to 4.", "Opening hours"),
        "Where?": ("Here.",),
        "Who?": ("We.",),
        'How, "exactly"?': ("Two\nlines.", "How come"),
    }
    assert api.chat("how come").json()["reply"] == "Two\nlines."
    entry = AuditEntry.objects.get(action="fixed_answer.imported")
    assert (entry.target, entry.channel_id) == ("1 new, 1 changed", site.channel.id)


@pytest.mark.parametrize(
    "content",
    [
        b"question;answer;wording\nOpen?;9, or 10.;Hours\n",
        "\ufeffQuestion;Answer;Wording 2\r\nOpen?;9, or 10.;Hours\r\n".encode(),
        b"sep=;\r\nquestion;answer;wording\r\nOpen?;9, or 10.;Hours\r\n",
        "question\tanswer\twording\nOpen?\t9, or 10.\tHours\n".encode("utf-16"),
        b'answer,wording,question\n"9, or 10.",Hours,Open?',
        b'question,answer,wording 2,wording 3,\n"Open?","9, or 10.",,Hours,\n\n,,,,\n',
    ],
    ids=["semicolons", "bom", "separator", "utf-16", "order", "blanks"],
)
def test_whatever_a_spreadsheet_writes_is_read(site: Site, content: bytes) -> None:
    assert save(site, upload(site, content)).status_code == 302
    assert stored(site) == {"Open?": ("9, or 10.", "Hours")}


def test_the_download_is_read_back_unchanged(site: Site) -> None:
    save_reply(site.channel, "=1+1", '-2\n"quoted", and; more', "'=apostrophe", "@x")
    save_reply(site.channel, "-5", "+49 30 123", "Café?")
    fixed_answers.add_fixed_answer(
        channel=site.channel, question=" Wide? ", answer=" as sent\r\n", actor=COMMAND_LINE
    )
    content = download(site)
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert rows[0] == ["question", "answer", "wording 2", "wording 3"]
    for row in rows[1:]:
        for cell in row:
            assert cell == "-5" or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert counts(upload(site, content)) == (0, 0, 3, 0)
    before = stored(site)
    FixedAnswer.objects.all().delete()
    preview = upload(site, content)
    assert counts(preview) == (3, 0, 0, 0)
    assert save(site, preview).status_code == 302
    assert stored(site)["=1+1"] == before["=1+1"]
    assert stored(site)["-5"] == before["-5"]


def test_the_example_can_be_uploaded(site: Site) -> None:
    assert counts(upload(site, download(site, "own-answers/example.csv"))) == (2, 0, 0, 0)


def test_bad_rows_are_named_by_line_and_nothing_is_saved(site: Site) -> None:
    save_reply(site.channel, "Open?", "9 to 5.")
    preview = upload(
        site,
        "question,answer,wording 2\n"
        'Good?,"Two\nlines.",\n'
        ",No question.,\n"
        "No answer?,,\n"
        "?!,Nothing to compare.,\n"
        "Long?," + "a" * 8_001 + ",\n"
        "Twice?,One.,open\n"
        "New?,Two.,good\n"
        "a,b,c,d\n"
        "Nul\x00?,x,\n"
        "open,Again.,\n",
    )
    assert preview.status_code == 422
    assert flaws(preview) == [
        (4, "The question is empty."),
        (5, "The answer is empty."),
        (6, "Needs at least one letter or digit."),
        (7, "The answer has 8,001 characters. Use at most 8,000."),
        (9, "“good” is already on line 2."),
        (10, "The row has more cells than the first line has columns."),
        (11, "Remove the NUL character: it cannot be stored."),
        (12, "“open” is already on line 8."),
    ]
    page = preview.content.decode()
    assert "Line 4: The question is empty." in page
    assert "Save replies" not in page
    assert save(site, preview).status_code == 422
    assert stored(site) == {"Open?": ("9 to 5.",)}


def test_a_wording_of_a_reply_that_stays_is_refused_by_its_name(site: Site) -> None:
    save_reply(site.channel, "Open?", "9 to 5.", "Hours")
    save_reply(site.channel, "Where?", "Here.")
    preview = upload(site, "question,answer,wording\nWhere?,Here.,hours\n")
    assert flaws(preview) == [(2, "The saved reply “Open?” already answers “hours”.")]


def test_a_file_moves_a_wording_from_one_reply_to_another(site: Site) -> None:
    save_reply(site.channel, "Open?", "9 to 5.", "Today")
    save_reply(site.channel, "Date?", "See above.")
    preview = upload(
        site, "question,answer,wording\nDate?,See above.,Today\nOpen?,9 to 5.,\nNew?,x,\n"
    )
    assert counts(preview) == (1, 2, 0, 0)
    assert save(site, preview).status_code == 302
    assert stored(site) == {
        "Open?": ("9 to 5.",),
        "Date?": ("See above.", "Today"),
        "New?": ("x",),
    }


def test_a_renamed_question_is_found_by_its_other_wording(site: Site) -> None:
    reply = save_reply(site.channel, "Open?", "9 to 5.", "Hours")
    preview = upload(site, "question,answer,wording\nWhen are you open?,9 to 5.,Hours\n")
    assert counts(preview) == (0, 1, 0, 0)
    assert save(site, preview).status_code == 302
    assert FixedAnswer.objects.get().id == reply.id
    assert stored(site) == {"When are you open?": ("9 to 5.", "Hours")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The first line must name the columns"),
        (b"a,b\nc,d\n", "The first line must name the columns"),
        (b"question,answer\n", "no rows below"),
        (b"question,answer,colour\nx,y,z\n", "There is no column “colour”."),
        (b"question,answer,answer\nx,y,z\n", "The column “answer” is there twice."),
        ("question,answer\nCafé?,x\n".encode("latin-1"), "not UTF-8 text"),
        (b"question,answer\n" + b"x" * 1024 * 1024, "larger than 1 MB"),
        (b"question,answer\n" + b"x,y\n" * 5_001, "more than 5,000 rows"),
        (b"question,answer\n" + b"x,\n" * 5_001, "more than 5,000 rows"),
        (MANY_WORDINGS, "more than 20,000 questions and wordings"),
    ],
    ids=[
        "empty",
        "names",
        "rows",
        "unknown",
        "twice",
        "latin-1",
        "large",
        "many",
        "all wrong",
        "wordings",
    ],
)
def test_an_unreadable_file_says_why(site: Site, content: bytes, words: str) -> None:
    response = upload(site, content)
    assert response.status_code == 422
    assert words in response.content.decode()


def test_an_open_quotation_mark_is_named_by_its_line(site: Site) -> None:
    preview = upload(site, 'question,answer\na,b\nc,"d\ne,f\n')
    assert [line for line, _ in flaws(preview)] == [3]


def test_no_file_is_asked_for_again(site: Site) -> None:
    response = owner_client(site).post(page_of(site, UPLOAD))
    assert response.status_code == 422
    assert "Choose a file." in response.content.decode()


def test_a_preview_that_is_out_of_date_is_shown_again(site: Site) -> None:
    reply = save_reply(site.channel, "Open?", "9 to 5.")
    preview = upload(site, "question,answer\nOpen?,Mine.\n")
    fixed_answers.update_fixed_answer(
        fixed_answer=reply, question="Open?", answer="Theirs.", actor=COMMAND_LINE
    )
    response = save(site, preview)
    assert response.status_code == 409
    assert "Nothing was saved, because saved replies have changed since" in (
        response.content.decode()
    )
    assert stored(site) == {"Open?": ("Theirs.",)}
    assert save(site, response).status_code == 302
    assert stored(site) == {"Open?": ("Mine.",)}


def test_a_file_beyond_the_limit_saves_nothing(site: Site) -> None:
    account = site.channel.account
    account.plan = Plan.objects.create(
        name="Small", requests_per_minute=10, **{limits.SAVED_REPLIES.field: 2}
    )
    account.save()
    response = save(site, upload(site, "question,answer\na,1\nb,2\nc,3\n"))
    assert response.status_code == 409
    page = response.content.decode()
    assert "at most 2 saved replies" in page
    assert "This account has 0 of at most 2 saved replies" in page
    assert stored(site) == {}


def test_a_damaged_form_saves_nothing(site: Site) -> None:
    for content in ("", "%%%", "cXVlc3Rpb24="):
        response = owner_client(site).post(page_of(site, UPLOAD + "save/"), {"content": content})
        assert response.status_code == 422
    assert stored(site) == {}


def test_viewers_download_and_upload_nothing(site: Site) -> None:
    save_reply(site.channel, "Open?", "9 to 5.")
    for client in (member_client(site, "viewer"), staff_guest(site)):
        assert b"Open?" in download(site, client=client)
        assert client.get(page_of(site, UPLOAD)).status_code == 403
        assert upload(site, "question,answer\na,b\n", client).status_code == 403
        assert client.post(page_of(site, UPLOAD + "save/"), {}).status_code == 403
    assert len(stored(site)) == 1


def test_a_strangers_file_is_unknown(site: Site, stranger: Site) -> None:
    client = owner_client(stranger)
    for rest in (FILE, "own-answers/example.csv", UPLOAD, UPLOAD + "save/"):
        assert_same_404(client, "", page_of(site, rest), f"/channels/{UNKNOWN}/{rest}")


def test_a_large_file_takes_few_statements(site: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(site)
    # Almost the largest file, which the form then carries as well.
    long = "x" * 1_000
    rows = "".join(f"q{n},{long} {n},other {n}\n" for n in range(1_000))
    with django_assert_max_num_queries(15):
        preview = upload(site, "question,answer,wording\n" + rows, client)
    assert counts(preview) == (1_000, 0, 0, 0)
    with django_assert_max_num_queries(40):
        assert save(site, preview, client).status_code == 302
    assert len(stored(site)) == 1_000
    with django_assert_max_num_queries(15):
        assert len(download(site, client=client).splitlines()) == 1_001
