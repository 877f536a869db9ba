"""Keys in the console: names, ends and restrictions, their use, and when one is safe to retire."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels import api_keys, key_uses
from channels.audit import COMMAND_LINE
from channels.models import ApiKey, AuditEntry, Plan
from channels.tests.factories import Site, note_use
from tests.support.clients import (
    ApiClient,
    member_client,
    owner_client,
    owner_of,
    page_of,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

MODEL = "llama-3.3-70b-versatile"


def live(site: Site) -> ApiKey:
    """Return the site's first live key, also after a rotation."""
    return site.channel.api_keys.get(mode="live", key_last_four=site.api_key[-4:])


def new_form(**more: Any) -> dict[str, Any]:
    return {"mode": "live", "key_id": str(uuid.uuid4())} | more


def create(site: Site, client: Any = None, **more: Any) -> Any:
    return (client or owner_client(site)).post(page_of(site, "keys/new/"), new_form(**more))


def edit(site: Site, client: Any = None, **more: Any) -> Any:
    client = client or owner_client(site)
    path = page_of(site, f"keys/{live(site).id}/edit/")
    form = client.get(path).context["form"]
    values = {name: form[name].value() for name in form.fields}
    values = {name: value for name, value in values.items() if value not in (None, False)}
    return client.post(path, values | more)


def list_page(site: Site) -> str:
    return text_of(owner_client(site).get(page_of(site, "keys/")))


def use(site: Site, *, address: str = "203.0.113.7", agent: str = "shop/1.0") -> None:
    meta = {"REMOTE_ADDR": address, "HTTP_USER_AGENT": agent}
    note_use(live(site).id, meta)
    key_uses.write_all()


# --- A new key ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["owner", "editor"])
def test_a_key_is_created_with_its_terms_and_they_apply(
    site: Site, provider: FakeProvider, clock: Any, role: str
) -> None:
    client = owner_client(site) if role == "owner" else member_client(site, role)
    response = create(
        site,
        client,
        name="Checkout",
        expires_at="2026-04-06",
        allowed_addresses="127.0.0.0/8, 203.0.113.7\r\n2001:db8::/32",
        allowed_models=[MODEL, "gemma2-9b-it"],
    )
    (issued,) = response.context["fresh"]
    key = ApiKey.objects.get(id=issued.record.id)
    assert key.name == "Checkout"
    assert key.created_by
    assert key.created_by.email in list_page(site)
    assert key.expires_at == datetime(2026, 4, 7, tzinfo=UTC)
    assert key.allowed_addresses == "127.0.0.0/8\n203.0.113.7/32\n2001:db8::/32"
    assert ApiClient(issued.clear).chat().status_code == 200
    page = list_page(site)
    assert "Only from 127.0.0.0/8, 203.0.113.7/32, 2001:db8::/32" in page
    assert f"Only for {MODEL}, gemma2-9b-it" in page
    clock.move_to("2026-04-06T23:59:59Z")
    assert ApiClient(issued.clear).chat(session_id="s2").status_code == 200
    clock.move_to("2026-04-07T00:00:01Z")
    assert ApiClient(issued.clear).chat(session_id="s3").status_code == 401


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("name", "x" * 500, "Use at most 80 characters, not 500."),
        ("name", "a\x00b", "Remove the NUL character"),
        ("expires_at", "2026-04-04", "This time has passed. Choose a later day"),
        ("expires_at", "tomorrow", "Enter a day such as 2026-11-28."),
        ("expires_at", "9999-12-31", "Choose a day before the year 3000."),
        (
            "allowed_addresses",
            "10.0.0.0/8\nshop.example",
            "“shop.example” is not an address range.",
        ),
        ("allowed_addresses", "203.0.113.7/24", "Write 203.0.113.0/24 for the whole range."),
        ("allowed_models", "gpt-none", "There is no model “gpt-none”."),
        ("mode", "admin", "Choose whether the key is a live or a test key."),
        ("key_id", "1", "The form is damaged. Reload the page and try again."),
    ],
)
def test_a_mistake_is_told_beside_its_field_and_the_rest_stays(
    site: Site, clock: Any, field: str, typed: str, words: str
) -> None:
    response = create(site, **{"name": "Mine", field: typed})
    assert response.status_code == 422
    assert words in text_of(response)
    shown = "__all__" if field == "key_id" else field
    assert words in str(response.context["form"].errors[shown])
    if field != "name":
        assert 'value="Mine"' in text_of(response)
    assert ApiKey.objects.count() == 2


def test_today_is_no_past_day(site: Site, clock: Any) -> None:
    assert create(site, expires_at="2026-04-05").context["fresh"]


def test_a_plan_without_room_for_a_key_says_so_and_keeps_the_form(site: Site) -> None:
    site.channel.account.plan = Plan.objects.create(name="Small", max_keys=2)
    site.channel.account.save()
    response = create(site, name="Third")
    assert response.status_code == 422
    assert "at most 2 keys" in text_of(response)
    assert 'value="Third"' in text_of(response)


def test_leaving_out_the_channels_model_is_warned_of(site: Site, provider: FakeProvider) -> None:
    page = text_of(owner_client(site).get(page_of(site, "keys/new/")))
    assert "The channel uses Llama 3.3 70B; if you leave that out, POST /api/chat refuses" in page
    response = create(site, allowed_models=["gemma2-9b-it"])
    assert "it may not use Llama 3.3 70B" in text_of(response)
    assert "Chats are refused" in list_page(site)
    (issued,) = response.context["fresh"]
    assert ApiClient(issued.clear).chat().json()["code"] == "not_allowed"


# --- Where all callers look alike -----------------------------------------------------------------

ALIKE = "all callers look alike"


@pytest.mark.parametrize(
    ("proxies", "peer", "is_told"),
    [(0, "127.0.0.1", True), (0, "172.18.0.1", True), (0, "8.8.8.8", False),
     (1, "172.18.0.1", False)],
)  # fmt: skip
def test_the_field_says_when_all_callers_look_alike(
    site: Site, settings: Any, proxies: int, peer: str, is_told: bool
) -> None:
    settings.TRUSTED_PROXY_COUNT = proxies
    page = text_of(owner_client(site).get(page_of(site, "keys/new/"), REMOTE_ADDR=peer))
    assert (ALIKE in page) == is_told
    assert (f"sees you as {peer}" in page) == is_told


# --- An existing key ------------------------------------------------------------------------------


def test_a_key_is_edited_and_its_form_shows_what_is_stored(site: Site, clock: Any) -> None:
    response = edit(
        site, name="Shop", expires_at="2026-05-01", allowed_addresses="10.0.0.0/8",
        allowed_models=[MODEL],
    )  # fmt: skip
    assert response["Location"] == page_of(site, "keys/")
    page = text_of(owner_client(site).get(page_of(site, f"keys/{live(site).id}/edit/")))
    for shown in ('value="Shop"', 'value="2026-05-01"', "10.0.0.0/8</textarea>", "checked"):
        assert shown in page
    entry = AuditEntry.objects.get(action="key.updated")
    assert set(entry.changes) == {"name", "expires_at", "allowed_addresses", "allowed_models"}
    assert entry.actor == owner_of(site)
    edit(site)  # as it was shown
    assert AuditEntry.objects.filter(action="key.updated").count() == 1
    assert live(site).expires_at == datetime(2026, 5, 2, tzinfo=UTC)


def test_the_hour_at_which_a_rotated_key_ends_survives_an_edit(site: Site, clock: Any) -> None:
    api_keys.rotate_api_key(api_key=live(site), overlap=timedelta(hours=1), actor=COMMAND_LINE)
    edit(site, name="Old")
    assert live(site).name == "Old"
    assert live(site).expires_at == timezone.now() + timedelta(hours=1)


def test_excluding_the_latest_caller_asks_first(site: Site, clock: Any) -> None:
    use(site, address="198.51.100.7")
    clock.shift(timedelta(minutes=3))
    client = owner_client(site)
    response = edit(site, client, allowed_addresses="203.0.113.0/24")
    assert response.status_code == 422
    page = text_of(response)
    assert "came from 198.51.100.7 (3 min ago)" in page
    assert 'type="checkbox" name="confirmed"' in page
    assert live(site).allowed_addresses == ""
    assert edit(site, client, allowed_addresses="203.0.113.0/24", confirmed="on").status_code == 302
    assert live(site).allowed_addresses == "203.0.113.0/24"


def test_two_people_at_one_key_see_both_versions(site: Site) -> None:
    client = owner_client(site)
    path = page_of(site, f"keys/{live(site).id}/edit/")
    digest = client.get(path).context["form"]["digest"].value()
    edit(site, member_client(site, "editor"), name="Theirs")
    mine = {"name": "Mine", "allowed_models": [MODEL], "digest": digest}
    response = client.post(path, mine)
    assert response.status_code == 409
    page = text_of(response)
    assert "editor@example.com saved it" in page
    for shown in ("Theirs", "Mine", MODEL):
        assert shown in page
    again = response.context["form"]["digest"].value()
    assert client.post(path, mine | {"digest": again}).status_code == 302
    assert live(site).name == "Mine"


def test_a_key_that_has_ended_is_not_edited(site: Site) -> None:
    key = live(site)
    api_keys.revoke_api_key(api_key=key)
    path = page_of(site, f"keys/{key.id}/edit/")
    client = owner_client(site)
    for response in (client.get(path, follow=True), client.post(path, {"name": "x"}, follow=True)):
        assert "no longer works, so it cannot be changed" in text_of(response)
    assert f"{key.id}/edit/" not in list_page(site)


# --- The list -------------------------------------------------------------------------------------


def test_the_list_tells_the_last_use_and_the_week(site: Site, clock: Any) -> None:
    assert list_page(site).count(">Never<") == 2
    use(site)
    clock.shift(timedelta(days=2))
    use(site, address="198.51.100.7", agent="<b>curl</b>")
    clock.shift(timedelta(minutes=3))
    page = list_page(site)
    assert ">3 min ago<" in page
    assert "2 requests in 7 days" in page
    assert "7 Apr 2026, 12:00 UTC from 198.51.100.7 with &lt;b&gt;curl&lt;/b&gt;" in page
    for client in (member_client(site, "viewer"), staff_guest(site)):
        assert "from 198.51.100.7" in text_of(client.get(page_of(site, "keys/")))


def test_a_rotated_key_is_safe_to_retire_once_it_was_quiet_for_a_day(
    site: Site, provider: FakeProvider, clock: Any
) -> None:
    use(site)
    assert "Safe to retire" not in list_page(site)
    api_keys.rotate_api_key(api_key=live(site), overlap=timedelta(days=7), actor=COMMAND_LINE)
    for _ in range(2):
        use(site)
    clock.shift(timedelta(minutes=3))
    page = list_page(site)
    assert "Still in use" in page
    assert "3 requests in the last 24 h, last" in page
    assert "3 min ago</time> from 203.0.113.7" in page
    clock.shift(timedelta(hours=23, minutes=56))
    assert "Still in use" in list_page(site)
    assert "Safe to retire" not in list_page(site)
    clock.shift(timedelta(minutes=2))
    assert "Still in use" not in list_page(site)
    assert "Safe to retire" in list_page(site)
    use(site)
    assert "Still in use" in list_page(site)


def test_a_rotated_key_without_any_use_is_watched_for_a_day_first(clock: Any, site: Site) -> None:
    """It may have been used before the gateway noted uses."""
    clock.shift(timedelta(days=3))
    api_keys.rotate_api_key(api_key=live(site), overlap=timedelta(days=7), actor=COMMAND_LINE)
    assert "Safe to retire from 9 Apr 2026, 12:00 UTC if it stays unused" in list_page(site)
    clock.shift(timedelta(hours=24))
    assert "Safe to retire</span>" in list_page(site)


def test_a_rotated_key_that_ends_before_it_is_safe_says_only_its_end(
    clock: Any, site: Site
) -> None:
    api_keys.rotate_api_key(api_key=live(site), overlap=timedelta(hours=24), actor=COMMAND_LINE)
    page = list_page(site)
    assert "6 Apr 2026, 12:00 UTC" in page
    assert "Safe to retire" not in page


def test_a_key_with_an_end_of_its_own_can_be_rotated(site: Site, clock: Any) -> None:
    edit(site, name="Guest", expires_at="2026-05-01", allowed_models=[MODEL])
    key = live(site)
    client = owner_client(site)
    assert f'data-dialog="#rotate-{key.id}"' in text_of(client.get(page_of(site, "keys/")))
    response = client.post(page_of(site, f"keys/{key.id}/rotate/"), {"overlap": "3600"})
    (issued,) = response.context["fresh"]
    assert api_keys.terms_of(issued.record) == api_keys.terms_of(key)
    assert f'data-dialog="#rotate-{key.id}"' not in text_of(response)


def test_the_page_asks_as_little_for_many_keys(
    site: Site, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        key = api_keys.issue_api_key(channel=site.channel, is_test=True).record
        note_use(key.id, {"REMOTE_ADDR": f"10.0.0.{number}"})
    key_uses.write_all()
    client = owner_client(site)
    with django_assert_max_num_queries(12):
        client.get(page_of(site, "keys/"))
