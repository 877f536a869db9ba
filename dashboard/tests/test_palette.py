"""What the palette and the switcher find, and for whom."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from channels import channel_changes
from channels.models import Account, Channel, Membership, User
from channels.tests.factories import Site
from dashboard import palette
from dashboard.staff import navigation
from tests.support.clients import (
    account_page,
    member_client,
    owner_client,
    owner_of,
    page_of,
    staff_client,
    staff_guest,
    text_of,
)

pytestmark = pytest.mark.django_db


def find(client: Client, path: str, term: str = "", **more: str) -> list[dict[str, str]]:
    response = client.get(path, {"s": term, **more})
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert "no-store" in response["Cache-Control"]
    results: list[dict[str, str]] = response.json()["results"]
    return results


def titles(results: list[dict[str, str]], group: str = "") -> list[str]:
    return [one["title"] for one in results if not group or one["group"] == group]


@pytest.fixture
def both(site: Site, stranger: Site) -> Site:
    """The site, whose owner is also an editor of an account of another name."""
    other = Account.objects.create(name="Second account")
    Membership.objects.create(account=other, user=owner_of(site), role=Membership.Role.EDITOR)
    return site


# --- The console ----------------------------------------------------------------------------------


def test_without_a_term_it_offers_pages_commands_and_channels(both: Site) -> None:
    results = find(owner_client(both), account_page(both, "search/"))
    assert {"Overview", "Channels", "Usage", "Team"} <= set(titles(results, "Pages"))
    commands = titles(results, "Commands")
    assert {"New channel", "Redeem a code", "Dark theme", "Log out"} <= set(commands)
    assert titles(results, "Channels") == [both.channel.name]
    assert titles(results, "Accounts") == ["Second account"]


def test_every_page_it_offers_is_there(both: Site) -> None:
    client = owner_client(both)
    for result in find(client, account_page(both, "search/")):
        assert bool(result["url"]) != bool(result["does"]), result
        if result["url"]:
            assert client.get(result["url"], follow=True).status_code == 200, result


def test_every_word_must_be_found(both: Site) -> None:
    client, path = owner_client(both), account_page(both, "search/")
    assert titles(find(client, path, "redeem CODE")) == ["Redeem a code"]
    assert titles(find(client, path, "account keys")) == ["Account keys"]
    assert find(client, path, "redeem elephants") == []


def test_the_palette_and_the_menu_lead_to_the_persons_emails(both: Site) -> None:
    client = owner_client(both)
    (found,) = find(client, account_page(both, "search/"), "e-mails")
    assert found["url"] == reverse("account_mails")
    assert f'href="{found["url"]}">E-mails</a>' in text_of(client.get(account_page(both)))
    page = text_of(client.get(found["url"]))
    assert '<h1 class="gw-h1">E-mails</h1>' in page
    assert "Notices" not in page


def test_a_role_is_offered_what_it_may_do(both: Site) -> None:
    path = account_page(both, "search/")
    viewer = titles(find(member_client(both, Membership.Role.VIEWER), path))
    editor = titles(find(member_client(both, Membership.Role.EDITOR), path))
    guest = titles(find(staff_guest(both), path))
    assert "New channel" in editor
    for some, missing in (
        (viewer, "New channel"),
        (editor, "Redeem a code"),
        (guest, "Account keys"),
    ):
        assert missing not in some
    assert "Log out" in viewer


def test_another_account_is_chosen_as_by_the_form(both: Site) -> None:
    client = owner_client(both)
    (found,) = find(client, account_page(both, "search/"), "second acc")
    assert (found["does"], found["url"]) == ("switch_account", "")
    answer = client.post(reverse("console:switch_account"), {"account": found["value"]})
    assert answer["Location"] == f"/a/{found['value']}/"


def test_the_switcher_finds_channels_and_accounts_alone(both: Site) -> None:
    client, path = owner_client(both), account_page(both, "search/")
    everything = find(client, path, **{"in": "switcher"})
    assert titles(everything) == [both.channel.name, "Second account"]
    assert titles(find(client, path, "second", **{"in": "switcher"})) == ["Second account"]


def test_nothing_of_a_stranger_is_found(both: Site, stranger: Site) -> None:
    client = owner_client(both)
    name = stranger.channel.account.name
    for term in ("", "stranger", name, str(stranger.channel.id), str(stranger.account_id)):
        for more in ({}, {"in": "switcher"}):
            text = str(find(client, account_page(both, "search/"), term, **more))
            assert "Stranger's shop" not in text, term
            assert str(stranger.channel.id) not in text, term
    assert client.get(account_page(stranger, "search/")).status_code == 404
    assert Client().get(account_page(both, "search/")).status_code == 302


def test_a_staff_guest_finds_only_what_is_of_the_account(both: Site, stranger: Site) -> None:
    guest = staff_guest(both)
    assert "Second account" not in titles(find(guest, account_page(both, "search/")))
    assert guest.get(account_page(stranger, "search/")).status_code == 404


def test_a_long_list_ends(both: Site, django_assert_max_num_queries: Any) -> None:
    for number in range(palette.MOST_ROWS + 5):
        channel_changes.create_channel(
            account=both.channel.account,
            name=f"Shop {number}",
            model_id=both.channel.model.model_id,
        )
    client = owner_client(both)
    with django_assert_max_num_queries(12):
        results = find(client, account_page(both, "search/"), "shop")
    assert len(titles(results, "Channels")) == palette.MOST_ROWS


@pytest.fixture
def harbour(site: Site) -> Site:
    """A site with two channels, of which one is called Harbour Dental."""
    Channel.objects.filter(id=site.channel.id).update(name="Harbour Dental", external_id="site-12")
    channel_changes.create_channel(
        account=site.channel.account, name="Dune Dental", model_id=site.channel.model.model_id
    )
    return site


def test_words_of_a_channel_and_of_a_page_find_the_channels_page(harbour: Site) -> None:
    client, path = owner_client(harbour), account_page(harbour, "search/")
    (found,) = find(client, path, "harb PLAY")
    assert found["title"] == "Harbour Dental: Playground"
    assert found["url"] == page_of(harbour, "playground/")
    assert titles(find(client, path, "site-12 keys")) == ["Harbour Dental: Keys"]
    assert titles(find(client, path, "dental usage")) == [
        "Dune Dental: Usage",
        "Harbour Dental: Usage",
    ]
    assert find(client, path, "bakery playground") == []


def test_a_channels_commands_are_found_with_and_without_its_name(harbour: Site) -> None:
    client, path = owner_client(harbour), account_page(harbour, "search/")
    both = ["New key for Dune Dental", "New key for Harbour Dental"]
    assert titles(find(client, path, "new key")) == both
    assert titles(find(client, path, "rotate harbour")) == ["Rotate a key of Harbour Dental"]
    assert titles(find(client, path, "usage"), "Pages") == [
        "Usage",
        "Dune Dental: Usage",
        "Harbour Dental: Usage",
    ]


def test_the_only_channel_found_offers_its_pages(harbour: Site) -> None:
    results = find(owner_client(harbour), account_page(harbour, "search/"), "harbour")
    assert titles(results, "Channels") == ["Harbour Dental"]
    assert {"Harbour Dental: Settings", "Harbour Dental: Conversations"} <= set(titles(results))
    viewer = member_client(harbour, Membership.Role.VIEWER)
    assert "New key for Harbour Dental" in titles(results)
    assert titles(find(viewer, account_page(harbour, "search/"), "new key")) == []


def test_a_channel_named_like_a_page_is_found_by_its_name(harbour: Site) -> None:
    Channel.objects.filter(name="Dune Dental").update(name="Key usage")
    results = find(owner_client(harbour), account_page(harbour, "search/"), "key usage")
    assert titles(results)[:2] == ["Key usage", "Key usage: Keys"]
    switcher = find(
        owner_client(harbour), account_page(harbour, "search/"), "usage key", **{"in": "switcher"}
    )
    assert titles(switcher) == ["Key usage"]


def test_the_pages_of_channels_cost_no_statement(
    harbour: Site, django_assert_max_num_queries: Any
) -> None:
    client, path = owner_client(harbour), account_page(harbour, "search/")
    with django_assert_max_num_queries(12):
        assert find(client, path, "dental playground")


# --- The staff admin ------------------------------------------------------------------------------


def test_staff_find_the_lists_that_they_may_see(site: Site) -> None:
    results = find(staff_client("view_plan", "view_account"), "/admin/search/", "plan")
    assert "Plans" in titles(results, "Pages")
    assert "Ledger" not in titles(find(staff_client(email="b@example.com"), "/admin/search/"))


def test_staff_find_what_is_called_so_first(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(name="Bakery")
    other = Account.objects.create(name="Mill")
    Channel.objects.create(account=other, name="Bakery of the mill", model=site.channel.model)
    client = staff_client("view_account", "view_channel")
    results = find(client, "/admin/search/", "bakery")
    assert titles(results, "Accounts") == ["Bakery", "Mill"]


@pytest.mark.parametrize("page", ["/admin/search/?s=", "/admin/channels/account/?q="])
def test_staff_find_nothing_by_what_they_may_not_see(site: Site, page: str) -> None:
    """Otherwise they could read an address or a key's end letter by letter."""
    Account.objects.filter(id=site.account_id).update(name="Bakery")
    Channel.objects.filter(id=site.channel.id).update(site_url="https://rye.example")
    terms = {
        "owner@exam": ("view_membership",),
        "rye.exam": ("view_channel",),
        site.api_key[-4:]: ("view_channel", "view_apikey"),
    }
    blind = staff_client("view_account", email="blind@example.com")
    for number, (term, needed) in enumerate(terms.items()):
        assert "Bakery" not in blind.get(page + term).content.decode()
        seeing = staff_client("view_account", *needed, email=f"{number}@example.com")
        assert "Bakery" in seeing.get(page + term).content.decode()


def test_accounts_and_channels_need_their_permissions(site: Site) -> None:
    results = find(staff_client("view_channel"), "/admin/search/", "shop")
    assert titles(results, "Channels") == [site.channel.name]
    assert titles(results, "Accounts") == []


def test_staff_who_may_book_find_where_to_add_credits(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(name="Bakery")
    Account.objects.create(name="Mill")
    clerk = staff_client("view_account", "add_ledgerentry")
    (found,) = find(clerk, "/admin/search/", "add credits bak")
    assert found["title"] == "Add credits to Bakery"
    assert clerk.get(found["url"]).status_code == 200
    assert titles(find(clerk, "/admin/search/", "add credits"))[0] == "Add credits to Mill"
    reader = staff_client("view_account", email="reader@example.com")
    assert titles(find(reader, "/admin/search/", "add credits bak")) == []


def test_an_owner_does_not_reach_the_search_of_staff(site: Site) -> None:
    assert owner_client(site).get("/admin/search/?s=shop").status_code in (302, 403)


def test_a_long_list_of_accounts_ends(site: Site, admin_client: Client) -> None:
    for number in range(palette.MOST_ROWS + 5):
        Account.objects.create(name=f"Mill {number}")
    results = find(admin_client, "/admin/search/", "mill")
    assert len(titles(results, "Accounts")) == palette.MOST_ROWS


# --- The staff's menu -----------------------------------------------------------------------------


def test_the_staffs_lists_are_in_five_groups_and_the_internals(rf: Any) -> None:
    request = rf.get("/admin/")
    request.user = User.objects.create_superuser("boss@example.com")
    groups = navigation.sidebar(request)
    names = [group["title"] for group in groups]
    assert names == ["", "Customers", "Credits", "Models", "Conversations", "System", "Internals"]
    assert [group["title"] for group in groups if group.get("collapsible")] == ["Internals"]
    internals = {item["title"] for item in groups[-1]["items"]}
    assert {"Holds", "Rate windows", "Waiting turns", "Idempotency keys"} <= internals
    assert sum(len(group["items"]) for group in groups[:-1]) <= 27


def test_a_closed_group_opens_for_its_own_pages(admin_client: Client) -> None:
    closed = '<details class="gw-nav-group">'
    assert closed in admin_client.get("/admin/").content.decode()
    page = admin_client.get("/admin/billing/hold/").content.decode()
    assert '<details class="gw-nav-group" open>' in page
    assert closed not in page
