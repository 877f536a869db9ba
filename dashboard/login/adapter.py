"""How the gateway customizes allauth: who may sign up, what new people get, what is recorded."""

from __future__ import annotations

import logging
import smtplib
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import (
    get_authentication_records,
    record_authentication,
)
from allauth.account.models import EmailAddress
from allauth.core import context as current
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import daily_counts, team
from channels.models import User
from common import languages
from common.floods import client_address
from dashboard.login import devices, events, factor_secrets, pending, sessions, signup
from dashboard.login.languages import remember_choice
from dashboard.login.recent import is_login_recent
from dashboard.public_address import with_public_links

logger = logging.getLogger("gateway.accounts")

WRONG_CODE = gettext_lazy("The code is wrong. Codes change every 30 seconds: try the next one.")
# The most links a mailbox gets in a day. Strangers can request such links for any address.
LINKS_PER_DAY = 10
_LINKS = frozenset(
    f"account/email/{name}"
    for name in (
        "email_confirmation_signup",
        "email_confirmation",
        "password_reset_key",
        "unknown_account",
        "account_already_exists",
    )
)
# The gateway mails each of these changes to the person, and records it as a security event.
_EVENTS = {
    "account/email/password_changed": "password.changed",
    "account/email/password_set": "password.set",
    "account/email/password_reset": "password.reset",
    "account/email/email_changed": "email.changed",
    "account/email/email_deleted": "email.change_withdrawn",
    "mfa/email/totp_activated": "second_factor.added",
    "mfa/email/totp_deactivated": "second_factor.removed",
    "mfa/email/webauthn_added": "second_factor.added",
    "mfa/email/webauthn_removed": "second_factor.removed",
    "mfa/email/recovery_codes_generated": "recovery_codes.generated",
}


class AccountAdapter(DefaultAccountAdapter):
    """The gateway's behaviour for log-in and sign-up."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "account_inactive": gettext_lazy("This login is disabled."),
        "email_password_mismatch": gettext_lazy("The e-mail address or password is wrong."),
        "too_many_login_attempts": gettext_lazy(
            "Too many attempts. Wait five minutes, then try again."
        ),
        "email_taken": gettext_lazy("Someone has already signed up with this e-mail address."),
        "duplicate_email": gettext_lazy("This is already your e-mail address."),
        "incorrect_password": gettext_lazy("The password is wrong."),
        "enter_current_password": gettext_lazy("This is not your current password."),
        "incorrect_code": WRONG_CODE,
    }

    # --- Sign-up ---

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.ALLOW_SIGNUP or pending.find_pending(request) is not None

    @transaction.atomic
    def save_user(
        self, request: HttpRequest, user: User, form: BaseForm, commit: bool = True
    ) -> User:
        """Save a new person. Creates an account for them unless they accept an invitation."""
        user.language = languages.chosen_in(request)
        user = super().save_user(request, user, form, commit)
        if pending.find_pending(request) is None:
            signup.make_account(user, address=client_address(request))
        # Only logged: in the audit log, the entry for creating or joining the account covers this.
        events.log("person.signed_up", request, user)
        return user

    def is_email_verified(self, request: HttpRequest, email: str) -> bool:
        """Return whether the invitation in this session was mailed to that address."""
        invitation = pending.find_pending(request)
        return invitation is not None and invitation.email.lower() == email.lower()

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Mark an address as verified. The first one after sign-up earns the sign-up credits."""
        user = email_address.user
        if _is_another_users(email_address):
            text = _("%(email)s belongs to another login and cannot be confirmed.")
            messages.error(request, text % {"email": email_address.email})
            return False
        if user.last_login is not None:
            return bool(super().confirm_email(request, email_address))
        # Nobody can log in before verifying an address, so a person who never has just signed up.
        with transaction.atomic():
            is_confirmed = bool(super().confirm_email(request, email_address))
            if is_confirmed:
                signup.grant_credits(user)
        return is_confirmed

    # --- Log-in and log-out ---

    def post_login(
        self,
        request: HttpRequest,
        user: User,
        *,
        signup: bool,
        redirect_url: str | None,
        **kwargs: Any,
    ) -> HttpResponse:
        """Record the log-in and redirect, to pending invitations if there are any."""
        if signup:
            # They chose their password a moment ago, which counts as a recent log-in.
            record_authentication(request, user, method="password", email=user.email)
        request.session.pop(pending.RESET_SESSION_KEY, None)
        response: HttpResponse = super().post_login(
            request, user, signup=signup, redirect_url=redirect_url, **kwargs
        )
        by = [record["method"] for record in get_authentication_records(request, user)]
        events.record("login.succeeded", request, user, by=", ".join(dict.fromkeys(by)))
        devices.note_log_in(request, user)
        remember_choice(response, user)
        if signup and pending.find_pending(request) is not None:
            # Choosing a password on this page accepts the invitation.
            return pending.accept(request, user)
        if redirect_url is None and team.list_invitations_to(user):
            return redirect("join")
        return response

    def logout(self, request: HttpRequest) -> None:
        if isinstance(request.user, User):
            events.record("login.ended", request, request.user)
        super().logout(request)

    def set_password(self, user: User, password: str) -> None:
        """Set a password and end this person's other sessions."""
        super().set_password(user, password)
        sessions.end_others(current.request, user)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, str]]:
        """Put the passkey first for a person who has a passkey but neither password nor app."""
        found: list[dict[str, str]] = super().get_reauthentication_methods(user)
        words = {
            "reauthenticate": _("Use your password"),
            "mfa_reauthenticate": _("Use a code"),
            "mfa_reauthenticate:webauthn": _("Use a passkey or security key"),
        }
        found = [one | {"description": words[one["id"]]} for one in found]
        is_code_first = bool(found) and found[0]["id"] == "mfa_reauthenticate"
        has_app = is_code_first and is_mfa_enabled(user, [Authenticator.Type.TOTP])
        return found[::-1] if is_code_first and not has_app else found

    def send_notification_mail(
        self, template_prefix: str, user: User, *args: Any, **kw: Any
    ) -> Any:
        """Mail the person about a change to their log-in, and record it."""
        if event := _EVENTS.get(template_prefix):
            factor = template_prefix.removeprefix("mfa/email/").partition("_")[0]
            fields = {"factor": factor} if event.startswith("second_factor.") else {}
            events.record(event, current.request, user, **fields)
        return super().send_notification_mail(template_prefix, user, *args, **kw)

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Ask again only if the log-in is old. allauth would ask even right after a log-in.

        gate.py asks before the view does. This catches pages that are missing from its list.
        """
        is_required = bool(super().is_reauthentication_required(app=app, **kwargs))
        return is_required and not is_login_recent(current.request)

    def is_safe_url(self, url: str) -> bool:
        """Follow `next` only on this host. allauth would also follow it to every allowed host."""
        request = current.request
        return url_has_allowed_host_and_scheme(
            url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        )

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send an e-mail, but only a limited number of links a day to each mailbox.

        If the mail server is unreachable, log-ins still work and no change is undone.
        """
        mailbox = daily_counts.mailbox_of(email)
        if template_prefix in _LINKS and not daily_counts.count(
            "mailed links", mailbox, most=LINKS_PER_DAY
        ):
            logger.warning("accounts.mail.limited", extra={"mail": template_prefix})
            # Every address gets the same message, whether or not somebody has signed up with it.
            text = _(
                "We sent many e-mails to this address today. Check your spam folder. Tomorrow "
                "you can ask for another."
            )
            messages.error(current.request, text)
            return
        person = context.get("user")
        language = person.language if isinstance(person, User) else ""
        try:
            # Whoever has no account or no choice reads the language of the page they just saw.
            with languages.speaking(language or languages.current()):
                links = with_public_links(current.request, context)
                super().send_mail(template_prefix, email, links)
        except (smtplib.SMTPException, OSError) as error:
            # Log only the kind of error: some servers quote the e-mail, which may contain a link.
            reason = {"mail": template_prefix, "reason": type(error).__name__}
            logger.warning("accounts.mail.not_sent", extra=reason)
            text = _("We could not send the e-mail. To get a link, try again in a few minutes.")
            messages.error(current.request, text)

    # --- Counting attempts ---

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        try:
            super().pre_authenticate(request, **credentials)
        except ValidationError:
            events.record_limit(request, events.find_person(credentials.get("email") or ""))
            raise

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        events.record_failure(request, credentials.get("email") or "")

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the client address, the same that all of the gateway's own limits count."""
        return client_address(request) or "unknown"

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # Count by name only. allauth adds the Host header, whose port the client can choose freely.
        name = credentials.get("email") or credentials.get("username") or ""
        return str(name).strip().lower()


def _is_another_users(email_address: EmailAddress) -> bool:
    others = User.objects.exclude(id=email_address.user_id)
    return others.filter(email__iexact=email_address.email).exists()


class SecondFactorAdapter(DefaultMFAAdapter):
    """Encrypts second-factor secrets with the key ring of the API keys, each bound to its row."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": WRONG_CODE,
    }

    def encrypt(self, text: str) -> str:
        return factor_secrets.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return factor_secrets.unseal(encrypted_text)

    def _get_site_name(self) -> str:
        return str(settings.SITE_NAME)
