"""Pages that ask for the password again: every URL is on the list, or harmless for a reason."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.contrib.auth.models import Group
from django.core import mail
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.urls.converters import UUIDConverter

from channels.models import ApiKey, Invitation, User
from channels.tests.factories import Site
from dashboard.login import deeds
from tests.support.clients import log_in, owner_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

PASSWORD = "correct-horse-battery"
HOUR = 3600

# Pages that show no secret, change no way to log in, and give nobody rights.
HARMLESS = {
    "open to everybody": "docs favicon admin:login account_login account_signup "
    "account_inactive account_email_verification_sent account_confirm_login_code "
    "mfa_authenticate mfa_login_webauthn join join_link",
    "the question itself, or asks for the password itself": "account_reauthenticate "
    "mfa_reauthenticate mfa_reauthenticate_webauthn account_change_password "
    "admin:password_change admin:password_change_done",
    "for whoever has the mailbox": "account_confirm_email account_mail_again "
    "account_reset_password account_reset_password_done account_reset_password_from_key "
    "account_reset_password_from_key_done",
    "ends a log-in, or only lists": "account_logout account_sessions account_end_session "
    "account_end_all_sessions admin:logout console:logout join_log_out mfa_index mfa_list_webauthn",
    "takes or turns down what somebody gave": "join_accept join_decline console:redeem_code",
    "asks for credits, which only the staff can give": "console:ask_for_credits "
    "console:withdraw_request",
    "takes rights back, which must not wait": "console:team_withdraw console:team_remove "
    "console:team_leave console:revoke_key console:revoke_account_key console:leave_staff_view",
    "asks for the channel's name": "console:delete_channel console:retire_channel",
    "which account one works in, or one's first": "console:switch_account console:create_account "
    "console:no_account",
    "pages and settings of a member, without keys": "console:index console:channels console:search "
    "console:channel console:save_channel console:move_model_back console:switch_channel "
    "console:keys console:note_key_copied console:overview_month console:switch_channels "
    "console:tag_channels "
    "console:prompt console:prompt_changes console:prompt_version console:save_prompt "
    "console:restore_prompt "
    "console:spend_caps console:save_spend_cap "
    "console:fixed_answers console:fixed_answer console:add_fixed_answer "
    "console:fixed_answers_csv console:fixed_answers_example console:upload_fixed_answers "
    "console:save_fixed_answers console:delete_fixed_answer "
    "console:connect console:start console:test_key console:playground "
    "console:playground_send console:draft_send console:draft_questions console:publish_draft "
    "console:usage console:usage_days console:usage_month console:usage_pages "
    "console:channel_usage console:channel_usage_pages console:channel_requests "
    "console:channel_conversations "
    "console:conversation console:conversations console:conversation_csv "
    "console:conversation_jsonl console:conversations_csv console:conversations_jsonl "
    "console:erase_conversation console:rate_reply console:credits console:credits_export "
    "console:credits_threshold console:statements console:statement console:statement_csv "
    "console:audit_log console:audit_log_csv console:team console:team_rename "
    "console:team_time_zone console:dismiss_checklist "
    "console:requests console:drafts console:requests_csv console:request "
    "console:failed_request console:replayed_request console:account_keys console:account_data",
    "the staff's frame": "admin:index admin:app_list admin:autocomplete admin:search admin:jsi18n "
    "admin:view_on_site admin:health admin:timeline admin:activity admin:providers_state "
    "admin:customer admin:customer_channels admin:margins admin:margins_csv",
    "calls and sums, no secret in the answer": "admin:test_route admin:verify_now "
    "admin:ask_workers admin:channels_route_try_it admin:test_environment "
    "admin:model_lists admin:fetch_model_lists",
    "puts channels back where they were, which owners can undo": "admin:move_models_back",
    "booked with a reason and a preview, in the books for good": "admin:credits_desk "
    "admin:credits_booked admin:credit_requests admin:decide_credit_request",
    "leads on to a page that asks, or refused to all": "admin:billing_redemptioncode_make "
    "admin:billing_redemptioncode_add admin:billing_redemptioncode_delete "
    "admin:billing_redemptioncode_history admin:billing_redemptioncode_changelist "
    "admin:billing_redemptioncode_change "
    "admin:channels_account_view_console",
    "leads on to the credits": "admin:billing_creditaccount_add_credits "
    "admin:billing_creditaccount_correct_credits admin:billing_creditaccount_deduct_credits "
    "admin:billing_creditaccount_explain admin:channels_account_add_credits "
    "admin:channels_account_correct_credits admin:channels_account_deduct_credits "
    "admin:channels_account_explain",
    "leads on to the account's figures": "admin:channels_account_overview",
    "leads on to a page that asks, for superusers": "admin:channels_provider_set_up",
    "leads on to a list of masked keys": "admin:channels_account_list_account_keys",
    "refused to all, or read-only": "admin:mfa_authenticator_add admin:mfa_authenticator_change "
    "admin:channels_account_delete admin:channels_account_changelist "
    "admin:channels_channel_delete admin:channels_channel_changelist",
    "how pages read": "set_language",
    "what was changed, without secrets": "admin:auth_group_history admin:channels_account_history "
    "admin:channels_channel_history admin:channels_membership_history "
    "admin:channels_provider_history admin:channels_user_history admin:mfa_authenticator_history",
}
# All five pages of each model.
HARMLESS_MODELS = {
    "read-only": "billing_creditaccount billing_creditgrant billing_dailyusage billing_hold "
    "billing_ledgerentry billing_ratewindow billing_spendcap billing_verificationrun "
    "channels_auditentry "
    "channels_invitation channels_promptversion channels_routehealth conversations_chatsession "
    "conversations_draftreply "
    "conversations_failedrequest conversations_feedback conversations_idempotencyrecord "
    "conversations_message conversations_replayedrequest conversations_waitingturn",
    "masked, and only ever revoked, which must not wait": "channels_apikey channels_accountkey",
    "limits, words, models and prices": "channels_plan channels_fixedanswer "
    "channels_languagemodel channels_route channels_costprice channels_creditprice",
}
HARMLESS_NAMES = {name for names in HARMLESS.values() for name in names.split()} | {
    f"admin:{model}_{page}"
    for models in HARMLESS_MODELS.values()
    for model in models.split()
    for page in ("add", "change", "changelist", "delete", "history")
}


def named(
    patterns: Any, namespace: str = "", ids: tuple[tuple[str, Any], ...] = ()
) -> Iterator[tuple[str, URLPattern, dict[str, Any]]]:
    """Yield each URL pattern with its name and a value for each id in it."""
    for pattern in patterns:
        regex = pattern.pattern.regex.groupindex if hasattr(pattern.pattern, "regex") else {}
        found = {key: "channels" if key == "app_label" else "1" for key in regex} | {
            key: "0190a000-0000-7000-8000-000000000000" if isinstance(of, UUIDConverter) else 1
            for key, of in pattern.pattern.converters.items()
        }
        more = (*ids, *found.items())
        if isinstance(pattern, URLResolver):
            inner = f"{pattern.namespace}:" if pattern.namespace else namespace
            yield from named(pattern.url_patterns, inner, more)
        elif pattern.name and not hasattr(pattern.callback, "cls"):
            yield f"{namespace}{pattern.name}", pattern, dict(more)


def pages() -> dict[str, dict[str, Any]]:
    """Return every page that a browser's log-in reaches. The API and the probes ignore cookies."""
    found = {name: ids for name, _, ids in named(get_resolver().url_patterns)}
    return {name: ids for name, ids in found.items() if name not in ("healthz", "readyz")}


def address_of(name: str) -> str:
    """Return the URL with ids that do not exist, because the gate runs before any look-up."""
    return reverse(name, kwargs=pages()[name])


def test_every_page_asks_again_or_is_harmless() -> None:
    asking = deeds.PAGES | deeds.FORMS
    unknown = set(pages()) - asking - HARMLESS_NAMES
    assert not unknown, "put them on the list of deeds.py, or here with a reason"
    assert not (asking & HARMLESS_NAMES)
    assert not (deeds.PAGES & deeds.FORMS)
    assert (asking | HARMLESS_NAMES) <= set(pages()), "pages that are gone"


@pytest.fixture
def boss(site: Site) -> User:
    """A superuser who also owns the account, so that nothing else stands in their way."""
    user = owner_of(site)
    user.is_staff = user.is_superuser = True
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.mark.parametrize("seconds_ago", [15 * 60 + 1, HOUR, None])
def test_each_deed_asks_whoever_has_not_just_logged_in(boss: User, seconds_ago: int | None) -> None:
    client = log_in(boss, seconds_ago=seconds_ago)
    for name in sorted(deeds.PAGES | deeds.FORMS):
        for method in ("post", "get") if name in deeds.PAGES else ("post",):
            answer = getattr(client, method)(address_of(name))
            if name == "console:show_key":
                assert answer.status_code == 403
                target = answer.json()["redirect"]
            else:
                assert answer.status_code == 302, (method, name)
                target = answer["Location"]
            assert target.startswith("/accounts/reauthenticate/?next="), (method, name)


def test_no_deed_asks_whoever_has(boss: User) -> None:
    client = log_in(boss)
    client.raise_request_exception = False
    for name in sorted(deeds.PAGES | deeds.FORMS):
        answer = client.post(address_of(name))
        assert "reauthenticate" not in answer.headers.get("Location", ""), name


def test_a_fresh_log_in_elsewhere_does_not_count(boss: User) -> None:
    old = log_in(boss, seconds_ago=HOUR)
    log_in(boss)
    assert "reauthenticate" in old.post(reverse("console:team_invite"))["Location"]


# --- Stories --------------------------------------------------------------------------------------


def test_an_old_log_in_is_no_way_to_take_over(site: Site, boss: User) -> None:
    client = log_in(boss, seconds_ago=HOUR)
    keys = ApiKey.objects.count()
    client.post("/accounts/email/", {"email": "thief@example.com", "action_add": "yes"})
    client.post(reverse("console:new_key", args=[site.channel.id]), {"mode": "live"})
    client.post(reverse("console:new_channel"), {"name": "Mine", "id": uuid.uuid4()})
    client.post(reverse("console:team_invite"), {"email": "t@example.com", "role": "owner"})
    client.post("/admin/auth/group/add/", {"name": "Thieves"})
    assert not mail.outbox
    assert ApiKey.objects.count() == keys
    assert not Invitation.objects.exists()
    assert not Group.objects.exists()
    assert not EmailAddress.objects.filter(email="thief@example.com").exists()


def test_what_was_sent_is_neither_done_nor_kept_and_the_way_leads_back(
    site: Site, boss: User
) -> None:
    client = log_in(boss, seconds_ago=HOUR)
    team = reverse("console:team")
    form = {"email": "guest@example.com", "role": "viewer"}
    asked = client.post(
        reverse("console:team_invite"), form, headers={"Referer": f"http://testserver{team}?a=1"}
    )
    page = client.get(asked["Location"])
    assert "Nothing has changed yet" in page.content.decode()
    back = client.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": f"{team}?a=1"})
    assert back["Location"] == f"{team}?a=1"
    assert not Invitation.objects.exists()
    assert "guest@example.com" not in str(client.session.items())
    assert client.post(reverse("console:team_invite"), form).status_code == 302
    assert Invitation.objects.count() == 1


@pytest.mark.parametrize(
    "referer",
    ["https://evil.test/x", "//evil.test/", "javascript:alert(1)", "http://testserver", ""],
)
def test_the_way_back_stays_here(boss: User, referer: str) -> None:
    client = log_in(boss, seconds_ago=HOUR)
    invite = reverse("console:team_invite")
    asked = client.post(invite, headers={"Referer": referer})
    assert asked["Location"] == f"/accounts/reauthenticate/?{urlencode({'next': invite})}"


def test_a_script_is_led_instead_of_redirected(boss: User) -> None:
    client = log_in(boss, seconds_ago=HOUR)
    answer = client.post(
        reverse("console:team_invite"), headers={"Accept": "application/json", "Referer": ""}
    )
    assert answer.status_code == 403
    assert answer.json()["redirect"].startswith("/accounts/reauthenticate/")
    assert answer["Cache-Control"] == "no-store"


# --- People without a password --------------------------------------------------------------------


def test_whoever_has_a_passkey_alone_is_asked_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allauth.mfa.webauthn.internal.auth.begin_authentication", lambda user: {})
    user = owner_of(site)
    user.set_unusable_password()
    user.save()
    Authenticator.objects.create(user=user, type="webauthn", data={"credential": {}, "name": "Key"})
    RecoveryCodes.activate(user)
    client = log_in(user, seconds_ago=HOUR)
    asked = client.get("/accounts/password/set/")
    assert asked["Location"].startswith("/accounts/2fa/webauthn/reauthenticate/?next=")
    page = client.get(asked["Location"]).content.decode()
    assert "Use a passkey or security key" in page
    assert "/accounts/2fa/reauthenticate/?next=" in page, "or a recovery code"
    codes = Authenticator.objects.get(user=user, type="recovery_codes").wrap().get_unused_codes()
    form = {"code": codes[0], "next": "/accounts/password/set/"}
    assert client.post("/accounts/2fa/reauthenticate/", form)["Location"] == form["next"]
    assert client.get("/accounts/password/set/").status_code == 200


def test_a_passkey_that_is_refused_leads_back_to_the_question(site: Site) -> None:
    user = owner_of(site)
    user.set_unusable_password()
    user.save()
    Authenticator.objects.create(user=user, type="webauthn", data={"credential": {}, "name": "Key"})
    client = log_in(user, seconds_ago=HOUR)
    url = "/accounts/2fa/webauthn/reauthenticate/"
    answer = client.post(url, {"credential": "nonsense", "next": "/team/"})
    assert answer["Location"] == f"{url}?next=%2Fteam%2F"


def test_whoever_has_nothing_proves_themselves_by_their_mailbox(site: Site) -> None:
    user = owner_of(site)
    user.set_unusable_password()
    user.save()
    asked = log_in(user, seconds_ago=HOUR).get("/accounts/password/set/")
    assert asked["Location"].startswith("/accounts/password/reset/")
