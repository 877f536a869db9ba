"""Keys: masked, revealed after a recent log-in, rotated once, revoked, and leaked nowhere."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from channels import api_keys
from channels.models import ApiKey, AuditEntry, LoginSession
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


def live_key(site: Site) -> ApiKey:
    return site.channel.api_keys.filter(mode="live").order_by("created_at")[0]


def deed(site: Site, name: str, key: ApiKey | None = None) -> str:
    return page_of(site, f"keys/{(key or live_key(site)).id}/{name}/")


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def clear_key_in(response: Any) -> str:
    """Return the key that the page shows in clear text."""
    assert response["Cache-Control"] == "no-store"
    (issued,) = response.context["fresh"]
    assert issued.clear in response.content.decode()
    return str(issued.clear)


# --- Reveal and copy ------------------------------------------------------------------------------


def test_the_list_shows_keys_masked(site: Site) -> None:
    page = owner_client(site).get(page_of(site, "keys/")).content.decode()
    assert live_key(site).masked in page
    assert page.count(">Active<") == 2
    for secret in (site.api_key, site.test_key):
        assert secret not in page


@pytest.mark.parametrize("role", ["owner", "editor"])
def test_a_key_is_revealed_to_who_may_and_every_time_is_audited(site: Site, role: str) -> None:
    client = owner_client(site) if role == "owner" else member_client(site, role)
    before = len(actions())
    for fields, action in (({}, "key.revealed"), ({"copy": "1"}, "key.copied")):
        response = client.post(deed(site, "show"), fields)
        assert response.json() == {"key": site.api_key}
        assert response["Cache-Control"] == "no-store"
        assert actions()[-1] == action
    assert len(actions()) == before + 2
    assert site.api_key not in str(list(AuditEntry.objects.values()))
    stored = [session.get_decoded() for session in LoginSession.objects.all()]
    assert site.api_key not in str(stored)


@pytest.mark.parametrize("seconds_ago", [15 * 60 + 1, None])
def test_an_old_log_in_must_be_renewed_first(site: Site, seconds_ago: int | None) -> None:
    client = owner_client(site, seconds_ago=seconds_ago)
    response = client.post(deed(site, "show"), {"next": "/?page=2"})
    assert response.status_code == 403
    assert response["Cache-Control"] == "no-store"
    assert response.json()["redirect"].endswith("?next=%2F%3Fpage%3D2")
    assert "key" not in response.json()
    assert not {"key.revealed", "key.copied"} & set(actions())
    assert client.get(response.json()["redirect"]).status_code in (200, 302)


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example/", "\\\\evil", "x", ""])
def test_the_way_back_leads_nowhere_else(site: Site, wanted: str) -> None:
    client = owner_client(site, seconds_ago=None)
    answer = client.post(deed(site, "show"), {"next": wanted}).json()
    assert "evil" not in answer["redirect"]
    assert str(site.channel.id) in answer["redirect"]


def test_viewers_and_guests_get_no_key_and_change_none(site: Site) -> None:
    for client in (member_client(site, "viewer"), staff_guest(site)):
        page = client.get(page_of(site, "keys/")).content.decode()
        assert "data-key-reveal" not in page
        assert "gw-dialog" not in page
        for name in ("show", "copied", "rotate", "revoke", "edit"):
            response = client.post(deed(site, name), {"overlap": "0", "copy": "1"})
            assert response.status_code == 403, name
            assert site.api_key not in response.content.decode()
        assert client.post(page_of(site, "keys/new/"), {"mode": "live"}).status_code == 403
        for path in (page_of(site, "keys/new/"), deed(site, "edit")):
            assert client.get(path).status_code == 403
    assert ApiKey.objects.filter(channel=site.channel, revoked_at=None).count() == 2
    assert not {"key.revealed", "key.copied"} & set(actions())


def test_a_strangers_keys_are_unknown(site: Site, stranger: Site) -> None:
    client = owner_client(stranger)
    mine, theirs = live_key(stranger), live_key(site)
    for name in ("show", "copied", "rotate", "revoke", "edit"):
        address = page_of(stranger, f"keys/{{}}/{name}/")
        paths = [address.format(one) for one in (mine.id, theirs.id, UNKNOWN)]
        assert_same_404(client, *paths, overlap="0")
        assert_same_404(
            client,
            paths[0],
            deed(site, name),
            f"/channels/{UNKNOWN}/keys/{theirs.id}/{name}/",
            overlap="0",
        )
    assert_same_404(client, "", page_of(site, "keys/"), f"/channels/{UNKNOWN}/keys/")
    assert_same_404(
        client, "", page_of(site, "keys/new/"), f"/channels/{UNKNOWN}/keys/new/", mode="live"
    )
    assert ApiKey.objects.filter(revoked_at=None).count() == 4


def test_reading_a_page_never_reveals(site: Site) -> None:
    client = owner_client(site)
    for name in ("show", "copied", "rotate", "revoke"):
        assert client.get(deed(site, name))["Location"] == page_of(site, "keys/")


def test_a_key_that_has_ended_is_not_shown(site: Site) -> None:
    api_keys.revoke_api_key(api_key=live_key(site))
    response = owner_client(site).post(deed(site, "show"))
    assert response.status_code == 409
    assert set(response.json()) == {"error"}


def test_a_key_that_cannot_be_decrypted_says_whose_work_that_is(site: Site) -> None:
    ApiKey.objects.filter(id=live_key(site).id).update(encryption_key_id="gone")
    response = owner_client(site).post(deed(site, "show"))
    assert response.status_code == 500
    assert "operator" in response.json()["error"]
    assert "key.revealed" not in actions()


def test_a_forged_form_of_another_site_is_refused(site: Site) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies = owner_client(site).cookies
    assert client.post(deed(site, "show")).status_code == 403
    assert "key.revealed" not in actions()


# --- Rotate ---------------------------------------------------------------------------------------


def test_a_rotated_key_works_on_for_the_overlap(
    site: Site, provider: FakeProvider, clock: Any
) -> None:
    response = owner_client(site).post(deed(site, "rotate"), {"overlap": "3600"})
    new = clear_key_in(response)
    assert ApiClient(new).chat(session_id="a").status_code == 200
    clock.shift(timedelta(minutes=59))
    assert ApiClient(site.api_key).chat(session_id="b").status_code == 200
    assert ">Ends<" in owner_client(site).get(page_of(site, "keys/")).content.decode()
    clock.shift(timedelta(minutes=2))
    assert ApiClient(site.api_key).chat(session_id="c").status_code == 401
    assert ApiClient(new).chat(session_id="d").status_code == 200


def test_rotating_at_once_ends_the_old_key_now(site: Site, provider: FakeProvider) -> None:
    new = clear_key_in(owner_client(site).post(deed(site, "rotate"), {"overlap": "0"}))
    assert ApiClient(site.api_key).chat().status_code == 401
    assert ApiClient(new).chat().status_code == 200


def test_a_test_key_is_followed_by_a_test_key(site: Site) -> None:
    key = site.channel.api_keys.get(mode="test")
    new = clear_key_in(owner_client(site).post(deed(site, "rotate", key), {"overlap": "0"}))
    assert new.startswith("amgai_test_")


def test_the_same_form_rotates_once(site: Site) -> None:
    client = owner_client(site)
    clear_key_in(client.post(deed(site, "rotate"), {"overlap": "604800"}))
    response = client.post(deed(site, "rotate"), {"overlap": "604800"}, follow=True)
    assert response.redirect_chain == [(page_of(site, "keys/"), 302)]
    assert "was already rotated or revoked" in response.content.decode()
    assert ApiKey.objects.filter(channel=site.channel, mode="live").count() == 2
    assert actions().count("key.rotated") == 1


@pytest.mark.parametrize("overlap", ["", "-1", "1", "x", "99999999999"])
def test_only_the_offered_overlaps_are_taken(site: Site, overlap: str) -> None:
    client = owner_client(site)
    assert client.post(deed(site, "rotate"), {"overlap": overlap}).status_code == 302
    assert ApiKey.objects.filter(channel=site.channel).count() == 2


# --- New and revoked ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["live", "test"])
def test_a_new_key_is_shown_once_and_works(site: Site, provider: FakeProvider, mode: str) -> None:
    client = owner_client(site)
    form = {"mode": mode, "key_id": str(uuid.uuid4())}
    new = clear_key_in(client.post(page_of(site, "keys/new/"), form))
    assert ApiClient(new).chat().status_code == 200
    again = client.post(page_of(site, "keys/new/"), form, follow=True)
    assert new not in again.content.decode()
    assert "already submitted" in again.content.decode()
    assert ApiKey.objects.filter(channel=site.channel).count() == 3
    stored = [session.get_decoded() for session in LoginSession.objects.all()]
    assert new not in str(stored)
    assert new not in str(client.cookies)


@pytest.mark.parametrize(
    "form", [{}, {"mode": "admin"}, {"mode": "live"}, {"mode": "live", "key_id": "1"}]
)
def test_a_form_with_something_missing_makes_no_key(site: Site, form: dict[str, str]) -> None:
    assert owner_client(site).post(page_of(site, "keys/new/"), form).status_code == 422
    assert ApiKey.objects.filter(channel=site.channel).count() == 2


def test_a_strangers_key_id_in_the_form_makes_a_new_key(site: Site, stranger: Site) -> None:
    theirs = live_key(stranger)
    form = {"mode": "live", "key_id": str(theirs.id)}
    owner_client(site).post(page_of(site, "keys/new/"), form)
    digest = theirs.key_digest
    theirs.refresh_from_db()
    assert (theirs.channel_id, theirs.key_digest) == (stranger.channel.id, digest)
    assert ApiKey.objects.filter(channel=site.channel).count() == 3


def test_a_revoked_key_is_refused_from_now_on(site: Site, api: ApiClient) -> None:
    client = owner_client(site)
    for _ in range(2):
        assert client.post(deed(site, "revoke"))["Location"] == page_of(site, "keys/")
    assert api.chat().status_code == 401
    assert actions().count("key.revoked") == 1
    assert ">Ended<" in client.get(page_of(site, "keys/")).content.decode()


def test_copying_a_fresh_key_is_audited_without_reading_it(site: Site) -> None:
    client = owner_client(site, seconds_ago=None)
    response = client.post(deed(site, "copied"))
    assert response.json() == {}
    assert actions()[-1] == "key.copied"


def test_no_key_reaches_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = owner_client(site)
    client.post(deed(site, "show"))
    new = clear_key_in(client.post(deed(site, "rotate"), {"overlap": "0"}))
    written = str([vars(record) for record in caplog.records])
    for key in (site.api_key, new):
        assert key not in written


def test_the_page_takes_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(site)
    for _ in range(20):
        api_keys.issue_api_key(channel=site.channel, is_test=True)
    client.get(page_of(site, "keys/"))
    with django_assert_max_num_queries(11):
        client.get(page_of(site, "keys/"))
    assert ApiKey.objects.filter(created_at__lte=timezone.now()).count() == 22


def test_keys_can_be_tried_where_they_are_listed_by_who_may(site: Site) -> None:
    path = page_of(site, "connect/test-key/")
    page = owner_client(site).get(page_of(site, "keys/")).content.decode()
    assert page.count(f'action="{path}"') == 2
    assert (
        f'action="{path}"'
        not in member_client(site, "viewer").get(page_of(site, "keys/")).content.decode()
    )
