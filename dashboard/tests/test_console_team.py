"""The Team page and joining by invitation, as owners, members, guests, and strangers."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from channels import accounts, team
from channels.audit import Actor
from channels.models import Account, AuditEntry, Invitation, LoginSession, Membership, User
from channels.team import Role
from channels.tests.factories import Site, make_site
from dashboard.console.access import begin_staff_view
from tests.support.clients import ConsoleClient, log_in, staff_client

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

PASSWORD = "correct-horse-battery"
CONSOLE_MAIL = "django.core.mail.backends.console.EmailBackend"


@pytest.fixture
def account(site: Site) -> Account:
    return site.channel.account


def client_of(email: str) -> Client:
    user = User.objects.filter(email=email).first() or User.objects.create_user(email, PASSWORD)
    return log_in(user)


def add(account: Account, email: str, role: str) -> Membership:
    user = User.objects.create_user(email, PASSWORD)
    return Membership.objects.create(account=account, user=user, role=role)


def text_of(response: Any) -> str:
    return str(response.content.decode())


def invite(owner: Client, email: str = "guest@example.com", role: str = "editor") -> str:
    """Invite somebody through the page and return the path of the mailed link."""
    response = owner.post(reverse("console:team_invite"), {"email": email, "role": role})
    assert response.status_code == 302
    found = re.search(r"http://testserver(/join/\S+/)", str(mail.outbox[-1].body))
    assert found
    return found[1]


# --- The page -------------------------------------------------------------------------------------


def test_the_team_is_shown_to_each_role(account: Account, owner: Client) -> None:
    add(account, "viewer@example.com", "viewer")
    add(account, "editor@example.com", "editor")
    invite(owner)
    for email in ("owner@example.com", "editor@example.com", "viewer@example.com"):
        text = text_of(client_of(email).get(reverse("console:team")))
        assert "viewer@example.com" in text
        is_owner = email == "owner@example.com"
        assert ("guest@example.com" in text) == is_owner
        assert ("Invite someone" in text) == is_owner


def test_the_page_takes_few_queries(
    account: Account, owner: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        add(account, f"{number}@example.com", "viewer")
    for number in range(15):
        invite(owner, f"guest-{number}@example.com")
    with django_assert_max_num_queries(11):
        owner.get(reverse("console:team"))


def writes(account: Account) -> list[tuple[str, dict[str, str]]]:
    """Return every form that only owners may send, with the data they send."""
    row, invitation = account.memberships.first(), account.invitations.first()
    assert row
    assert invitation
    return [
        (reverse("console:team_invite"), {"email": "x@example.com", "role": "owner"}),
        (reverse("console:team_invite_again", args=[invitation.id]), {}),
        (reverse("console:team_withdraw", args=[invitation.id]), {}),
        (reverse("console:team_role", args=[row.id]), {"role": "viewer"}),
        (reverse("console:team_remove", args=[row.id]), {}),
        (reverse("console:team_rename"), {"name": "Stolen"}),
        (reverse("console:team_time_zone"), {"time_zone": "Europe/Berlin"}),
    ]


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_only_owners_change_the_team(account: Account, owner: Client, role: str) -> None:
    add(account, "member@example.com", role)
    invite(owner)
    before = list(account.memberships.values()), list(account.invitations.values()), account.name
    client = client_of("member@example.com")
    for address, data in writes(account):
        assert client.post(address, data).status_code == 403, address
        page = f"/a/{account.id}/team/"
        assert client.get(address)["Location"] == page, address
        assert Client().post(address, data)["Location"].startswith("/accounts/login/")
    account.refresh_from_db()
    after = list(account.memberships.values()), list(account.invitations.values()), account.name
    assert after == before
    assert account.time_zone == "UTC"


def test_strangers_ids_are_unknown_ones(account: Account, owner: Client, stranger: Site) -> None:
    invite(owner)
    client = client_of("stranger@example.com")
    addresses = [(address, data) for address, data in writes(account) if re.search(r"\d", address)]
    assert len(addresses) == 4
    for address, data in addresses:
        unknown = re.sub(r"\d+", "999999", address)
        assert client.post(address, data).status_code == 404
        assert client.post(unknown, data).status_code == 404
    assert account.memberships.get().role == "owner"
    assert account.invitations.get().closed_at is None


def test_staff_who_look_on_change_nothing(account: Account, owner: Client) -> None:
    invite(owner)
    client = log_in(User.objects.create_superuser("staff@example.com"))
    session = client.session
    begin_staff_view(session, account.id)
    session.save()
    assert client.get(reverse("console:team")).status_code == 200
    for address, data in [*writes(account), (reverse("console:team_leave"), {})]:
        assert client.post(address, data).status_code == 403


def test_roles_are_changed_and_members_removed(account: Account, owner: Client) -> None:
    row = add(account, "member@example.com", "viewer")
    address = reverse("console:team_role", args=[row.id])
    assert "now editor" in text_of(owner.post(address, {"role": "editor"}, follow=True))
    assert "no such role" in text_of(owner.post(address, {"role": "king"}, follow=True))
    row.refresh_from_db()
    assert row.role == "editor"
    client = client_of("member@example.com")
    assert client.get(reverse("console:team")).status_code == 200
    owner.post(reverse("console:team_remove", args=[row.id]))
    assert client.get(reverse("console:team"))["Location"] == reverse("console:no_account")


def test_the_last_owner_cannot_leave(account: Account, owner: Client) -> None:
    answer = owner.post(reverse("console:team_leave"), follow=True)
    assert "needs an owner" in text_of(answer)
    own = account.memberships.get()
    answer = owner.post(
        reverse("console:team_role", args=[own.id]), {"role": "viewer"}, follow=True
    )
    assert "needs an owner" in text_of(answer)
    assert account.memberships.get().role == "owner"


def test_members_leave(account: Account, owner: Client) -> None:
    add(account, "member@example.com", "viewer")
    client_of("member@example.com").post(reverse("console:team_leave"))
    assert account.memberships.count() == 1
    assert AuditEntry.objects.filter(action="member.left").exists()


def test_the_account_is_renamed(account: Account, owner: Client) -> None:
    owner.post(reverse("console:team_rename"), {"name": " Acme "})
    account.refresh_from_db()
    assert account.name == "Acme"
    refused = owner.post(reverse("console:team_rename"), {"name": " "})
    assert "Fill in this field." in text_of(refused)
    long = owner.post(reverse("console:team_rename"), {"name": "x" * 101})
    assert "at most 100 characters" in text_of(long)


def test_an_owner_chooses_the_time_zone_by_its_name(account: Account, owner: Client) -> None:
    address = reverse("console:team_time_zone")
    data = {"time_zone": " europe/berlin ", "has_local_quota": "on"}
    text = text_of(owner.post(address, data, follow=True))
    assert "now follow Europe/Berlin" in text
    assert "Spend caps of the day change at" in text
    account.refresh_from_db()
    assert (account.time_zone, account.has_local_quota) == ("Europe/Berlin", True)
    for wrong in ("Mars/Olympus", "Berlin", "x" * 65, "x\x00y", ""):
        refused = owner.post(address, {"time_zone": wrong})
        assert 'id="id_time_zone_error"' in refused.content.decode(), wrong
    account.refresh_from_db()
    assert account.time_zone == "Europe/Berlin"


def test_a_zone_chosen_while_an_earlier_change_takes_effect_waits(
    account: Account, owner: Client, clock: Any
) -> None:
    address = reverse("console:team_time_zone")
    owner.post(address, {"time_zone": "Europe/Berlin"})
    account.refresh_from_db()
    clock.move_to(account.calendar.day.span(timezone.now()).ends_at - timedelta(seconds=3))
    refused = owner.post(address, {"time_zone": "Asia/Kathmandu"})
    assert "Save again in ten seconds." in text_of(refused)
    account.refresh_from_db()
    assert account.time_zone == "Europe/Berlin"


# --- Inviting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (
            {"email": "no address", "role": "viewer"},
            "Enter an e-mail address such as",
        ),
        ({"email": "", "role": "viewer"}, "Fill in this field."),
        ({"email": "a@example.com", "role": "king"}, "Choose one of the options."),
        ({"email": "owner@example.com", "role": "viewer"}, "already in this account"),
    ],
)
def test_wrong_invitations_are_refused_beside_the_field(
    owner: Client, data: dict[str, str], error: str
) -> None:
    response = owner.post(reverse("console:team_invite"), data)
    assert error in text_of(response)
    assert data["email"] in text_of(response)
    assert not Invitation.objects.exists()
    assert not mail.outbox


def test_inviting_twice_sends_one_mail(owner: Client) -> None:
    invite(owner)
    again = owner.post(
        reverse("console:team_invite"), {"email": "Guest@example.com", "role": "viewer"}
    )
    assert "has already been invited" in text_of(again)
    assert len(mail.outbox) == 1


def test_the_mail_says_who_invites_into_what(account: Account, owner: Client) -> None:
    team.rename_account(account=account, name="Acme\nBcc: x@example.com", actor=Actor("test"))
    invite(owner)
    sent = mail.outbox[0]
    assert sent.to == ["guest@example.com"]
    assert sent.reply_to == ["owner@example.com"]
    assert sent.subject == "AI gateway: you are invited to Acme Bcc: x@example.com"
    assert "owner@example.com invites you" in sent.body


def test_without_a_mail_server_the_link_is_shown_once(settings: Any, owner: Client) -> None:
    settings.EMAIL_BACKEND = CONSOLE_MAIL
    data = {"email": "guest@example.com", "role": "viewer"}
    text = text_of(owner.post(reverse("console:team_invite"), data))
    found = re.search(r"http://testserver(/join/[\w-]+/)", text)
    assert found
    assert found[1] not in text_of(owner.get(reverse("console:team")))
    assert Client().get(found[1], follow=True).status_code == 200


def test_a_mail_that_cannot_be_sent_shows_no_link(
    owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.EmailMessage.send", fail)
    data = {"email": "guest@example.com", "role": "viewer"}
    text = text_of(owner.post(reverse("console:team_invite"), data, follow=True))
    assert "could not be sent" in text
    assert "/join/" not in text


# --- Joining --------------------------------------------------------------------------------------


def test_who_has_a_log_in_accepts(account: Account, owner: Client) -> None:
    link = invite(owner)
    guest = client_of("guest@example.com")
    assert guest.get(link)["Location"] == "/join/"
    page = text_of(guest.get("/join/"))
    assert account.name in page
    assert "Editor" in page
    assert guest.post("/join/accept/")["Location"] == "/"
    assert guest.post("/join/accept/")["Location"] == "/"
    assert account.memberships.get(user__email="guest@example.com").role == "editor"
    assert account.name in text_of(guest.get("/", follow=True))


def test_a_guest_logs_in_first_and_is_led_back(account: Account, owner: Client) -> None:
    link = invite(owner)
    User.objects.create_user("guest@example.com", PASSWORD)
    guest = ConsoleClient()
    page = text_of(guest.get(link, follow=True))
    assert "/accounts/login/?next=%2Fjoin%2F" in page
    form = {"login": "guest@example.com", "password": PASSWORD, "next": "/join/"}
    assert guest.post("/accounts/login/", form)["Location"] == "/join/"
    guest.post("/join/accept/")
    assert account.memberships.count() == 2


def test_a_newcomer_signs_up_through_the_link_where_sign_up_is_closed(
    settings: Any, account: Account, owner: Client
) -> None:
    settings.ALLOW_SIGNUP = False
    link = invite(owner)
    guest = ConsoleClient()
    assert "/accounts/signup/?next=%2Fjoin%2F" in text_of(guest.get(link, follow=True))
    assert "guest@example.com" in text_of(guest.get("/accounts/signup/?next=/join/"))
    # Whatever address the form contains, the invited one counts.
    form = {"email": "other@example.com", "password1": PASSWORD, "next": "/join/"}
    assert guest.post("/accounts/signup/", form)["Location"] == "/", "and in the account"
    assert len(mail.outbox) == 1, "the invitation has proven the address"
    user = User.objects.get(email="guest@example.com")
    assert [one.account_id for one in user.memberships.all()] == [account.id]
    assert not User.objects.filter(email="other@example.com").exists()


def test_whoever_logs_in_sees_the_invitations_that_wait(
    account: Account, owner: Client, forget_attempts: Any
) -> None:
    User.objects.create_user("guest@example.com", PASSWORD)
    invite(owner, "Guest@example.com")
    guest = Client()
    form = {"login": "guest@example.com", "password": PASSWORD}
    assert guest.post("/accounts/login/", form)["Location"] == "/join/"
    page = text_of(guest.get("/join/"))
    assert account.name in page
    assert guest.get("/", follow=True).request["PATH_INFO"] == "/join/", "and has no account yet"
    number = Invitation.objects.get().pk
    assert guest.post("/join/accept/", {"invitation": number})["Location"] == "/"
    assert Membership.objects.get(user__email="guest@example.com").account == account
    assert guest.get("/join/").status_code == 404


def test_an_invitation_can_be_declined(account: Account, owner: Client) -> None:
    invite(owner)
    guest = client_of("guest@example.com")
    invitation = Invitation.objects.get()
    guest.post("/join/decline/", {"invitation": invitation.pk})
    assert not team.list_invitations_to(User.objects.get(email="guest@example.com"))
    assert AuditEntry.objects.filter(action="member.invitation_declined", account=account).exists()
    assert guest.post("/join/accept/", {"invitation": invitation.pk}).status_code == 404


@pytest.mark.parametrize("deed", ["accept", "decline"])
def test_a_strangers_invitation_is_an_unknown_one(
    account: Account, owner: Client, deed: str
) -> None:
    invite(owner)
    invitation = Invitation.objects.get()
    thief = client_of("thief@example.com")
    for number in (invitation.pk, 999_999, "x"):
        assert thief.post(f"/join/{deed}/", {"invitation": number}).status_code == 404
    invitation.refresh_from_db()
    assert invitation.closed_at is None
    assert not Membership.objects.filter(user__email="thief@example.com").exists()


def test_a_log_in_that_leads_somewhere_goes_there(account: Account, owner: Client) -> None:
    User.objects.create_user("guest@example.com", PASSWORD)
    invite(owner)
    form = {"login": "guest@example.com", "password": PASSWORD, "next": "/docs/"}
    assert Client().post("/accounts/login/", form)["Location"] == "/docs/"


def test_without_a_link_sign_up_stays_closed(settings: Any, owner: Client) -> None:
    settings.ALLOW_SIGNUP = False
    link = invite(owner)
    guest = ConsoleClient()
    guest.get(link)
    Invitation.objects.get().delete()
    form = {"email": "guest@example.com", "password1": PASSWORD}
    assert "Sign-up is closed" in text_of(guest.post("/accounts/signup/", form))
    assert not User.objects.filter(email="guest@example.com").exists()


def test_somebody_else_is_told_whom_it_is_for(account: Account, owner: Client) -> None:
    link = invite(owner)
    other = client_of("other@example.com")
    page = text_of(other.get(link, follow=True))
    assert "You are logged in as" in page
    assert "/join/accept/" not in page
    answer = other.post("/join/accept/", follow=True)
    assert "This invitation is for guest@example.com" in text_of(answer)
    assert account.memberships.count() == 1
    other.post("/join/log-out/")
    assert "Choose a password to accept" in text_of(other.get("/join/"))


def test_links_that_have_ended_say_so(account: Account, owner: Client) -> None:
    for path in ("/join/", "/join/unknown/"):
        response = Client().get(path, follow=True)
        assert response.status_code == 404
        assert "no longer works" in text_of(response)
    link = invite(owner)
    owner.post(reverse("console:team_withdraw", args=[Invitation.objects.get().id]))
    assert Client().get(link, follow=True).status_code == 404


def test_accepting_needs_a_log_in_and_a_post(owner: Client) -> None:
    link = invite(owner)
    guest = ConsoleClient()
    guest.get(link)
    assert guest.get("/join/log-out/")["Location"] == "/join/"
    assert guest.post("/join/accept/")["Location"].startswith("/accounts/login/")


# --- No account -----------------------------------------------------------------------------------


def test_who_is_in_no_account_makes_one(db: None) -> None:
    client = client_of("anna@example.com")
    assert "Create my own account" in text_of(client.get("/", follow=True))
    for _ in range(2):
        assert client.post(reverse("console:create_account"))["Location"] == "/"
    assert Account.objects.get().name == "Anna's account"


def test_staff_without_an_account_find_back_to_their_pages(db: None) -> None:
    page = staff_client().get("/", follow=True)
    assert page.redirect_chain[-1][0] == reverse("console:no_account")
    # In the menu, and in the middle of the page.
    assert text_of(page).count('href="/admin/"') == 2
    assert 'href="/admin/"' not in text_of(client_of("anna@example.com").get("/", follow=True))


def test_where_sign_up_is_closed_nobody_makes_an_account(settings: Any, db: None) -> None:
    settings.ALLOW_SIGNUP = False
    client = client_of("anna@example.com")
    assert "Create my own account" not in text_of(client.get("/", follow=True))
    assert client.post(reverse("console:create_account")).status_code == 403
    assert not Account.objects.exists()


def test_members_of_an_account_get_no_second_one(account: Account, owner: Client) -> None:
    owner.post(reverse("console:create_account"))
    assert Account.objects.count() == 1


def test_one_works_in_the_account_one_has_joined(owner: Client) -> None:
    own = make_site(owner="guest@example.com", name="Own shop")
    accounts.ensure_account(owner_email="guest@example.com")
    link = invite(owner)
    guest = client_of("guest@example.com")
    guest.get(link)
    guest.post("/join/accept/")
    page = guest.get(reverse("console:team"))
    assert "owner@example.com" in text_of(page)
    assert own.account_id != Membership.objects.get(role=Role.EDITOR).account_id


def test_an_invented_link_leaves_nothing_behind(db: None) -> None:
    """A stranger could fill the table of log-in sessions with them."""
    stranger = Client()
    assert stranger.get("/join/invented/")["Location"] == "/join/"
    assert stranger.get("/join/").status_code == 404
    assert not stranger.cookies
    assert not LoginSession.objects.exists()
