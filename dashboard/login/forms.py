"""allauth's forms with our labels and messages, and with the steps that the gateway adds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.account import forms
from allauth.account.adapter import get_adapter
from allauth.account.fields import SetPasswordField
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa import app_settings
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base import forms as factor_forms
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    EditWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _

from channels import daily_counts
from channels.models import User
from dashboard.login import events, factor_secrets, pending

ABOUT_PASSWORDS = _("At least 8 characters, not only digits, and not a common password.")
_LABELS = {
    "login": _("E-mail address"),
    "email": _("E-mail address"),
    "remember": _("Keep me logged in on this computer"),
    "oldpassword": _("Current password"),
    "password2": _("New password again"),
    "name": _("Name"),
}


class _OurWords:
    """Puts labels beside the fields, not inside, and explains passwords in one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():  # type: ignore[attr-defined]
            field.widget.attrs.pop("placeholder", None)
            field.label = _LABELS.get(name, field.label)
            if name == "password1":
                field.help_text = ABOUT_PASSWORDS
            if isinstance(field, SetPasswordField):
                field.label = _("New password")


class LogInForm(_OurWords, forms.LoginForm):
    """E-mail address and password."""


class ChangeEmailForm(_OurWords, forms.AddEmailForm):
    """A new address, which the person must then verify."""

    def save(self, request: HttpRequest) -> EmailAddress:
        events.record("email.change_requested", request, self.user, to=self.cleaned_data["email"])
        return super().save(request)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("New e-mail address")


class ChangePasswordForm(_OurWords, forms.ChangePasswordForm):
    """The old password and a new one."""


class SetPasswordForm(_OurWords, forms.SetPasswordForm):
    """A password for a person who has none."""


class ResetPasswordForm(_OurWords, forms.ResetPasswordForm):
    """The address that the link goes to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].initial = context.request.session.get(pending.RESET_SESSION_KEY)

    def save(self, request: HttpRequest, **kwargs: Any) -> str:
        """Mail the link, and remember the address in case the person asks for another e-mail."""
        email: str = super().save(request, **kwargs)
        request.session[pending.RESET_SESSION_KEY] = email
        return email


class ReauthenticateForm(_OurWords, forms.ReauthenticateForm):
    """The password, asked for again."""

    def clean_password(self) -> str:
        password: str = super().clean_password()
        events.record("login.confirmed", context.request, self.user, by="password")
        return password


class SignUpForm(_OurWords, forms.SignupForm):
    """E-mail address and password. An invitation fixes the address."""

    account_already_exists: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        invitation = pending.find_pending(context.request)
        if invitation is not None:
            email = self.fields["email"]
            # A disabled field keeps its initial value, whatever the client posts.
            email.disabled, email.initial = True, invitation.email.lower()
            self.initial["email"] = email.initial
            email.help_text = _("The address your invitation was sent to.")

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponseBase | None]:
        """Create the user. If the address is taken, give the same answer as if it were free."""
        if not self.account_already_exists:
            try:
                with transaction.atomic():
                    return super().try_save(request)  # type: ignore[no-any-return]
            except IntegrityError:
                # Somebody signed up with this address a moment ago.
                self.account_already_exists = True
        # Hash a password, so that this takes as long as creating a user.
        User().set_password(self.cleaned_data["password1"])
        return super().try_save(request)  # type: ignore[no-any-return]


class ResetPasswordKeyForm(_OurWords, forms.ResetPasswordKeyForm):
    """A new password for a person who opened a mailed link."""

    def save(self) -> None:
        """Set the password, and mark the address as verified, because the link was mailed to it."""
        super().save()
        addresses = list(EmailAddress.objects.filter(user=self.user))
        # With several addresses, the link does not say which one it was mailed to.
        if len(addresses) == 1 and not addresses[0].verified:
            request = context.request
            get_adapter(request).confirm_email(request, addresses[0])


# --- Second factors -------------------------------------------------------------------------------


@contextmanager
def _recorded(user: User | None, *, by: str) -> Iterator[None]:
    """Record a refused second factor, or that the person must wait after too many attempts."""
    try:
        yield
    except ValidationError as error:
        request = context.request
        if error.code == "too_many_login_attempts":
            events.record_limit(request, user)
        elif user is not None:
            event = "login.confirmation_failed" if request.user.is_authenticated else "login.failed"
            events.record(event, request, user, by=by)
        raise


def _use_up(user: User, code: str) -> None:
    """Use up an app's code, so that no process accepts it twice. Raises ValidationError.

    A code is valid for one period of 30 s. The same code in a later period is a new one.
    """
    period = int(time.time()) // app_settings.TOTP_PERIOD
    subject = f"{user.pk} {period} {normalize_user_code(code)}"
    if not daily_counts.count("app code", subject, most=1):
        raise get_mfa_adapter().validation_error("incorrect_code")


class _RecordedCode:
    """Accepts an app's code or a recovery code only once, and records refused ones."""

    user: User
    authenticator: Authenticator

    def clean_code(self) -> str:
        with _recorded(self.user, by="code"):
            code: str = super().clean_code()  # type: ignore[misc]
            if self.authenticator.type == Authenticator.Type.TOTP:
                _use_up(self.user, code)
        return code


class CodeForm(_RecordedCode, _OurWords, factor_forms.AuthenticateForm):
    """The second step of a log-in."""


class CodeAgainForm(_RecordedCode, _OurWords, factor_forms.ReauthenticateForm):
    """A code instead of the password, when the gateway asks again."""

    def save(self) -> None:
        super().save()
        events.record("login.confirmed", context.request, self.user, by="code")


class ActivateAppForm(_OurWords, ActivateTOTPForm):
    """The first code of a new authenticator app."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # allauth would keep the secret in the session unencrypted.
        found: str = vars(self)["secret"]
        self.secret: str = factor_secrets.keep_pending(context.request, found, user_id=self.user.pk)

    def clean_code(self) -> str:
        code: str = super().clean_code()
        _use_up(self.user, code)
        return code


class _RecordedPasskey:
    """Records a refused passkey or security key."""

    user: User | None

    def clean_credential(self) -> Authenticator:
        with _recorded(self.user, by="passkey"):
            return super().clean_credential()  # type: ignore[misc]


class PasskeyForm(_RecordedPasskey, AuthenticateWebAuthnForm):
    """The second step of a log-in, with a passkey or security key."""


class PasskeyLogInForm(_RecordedPasskey, LoginWebAuthnForm):
    """A log-in with only a passkey."""


class PasskeyAgainForm(_RecordedPasskey, ReauthenticateWebAuthnForm):
    """A passkey instead of the password, when the gateway asks again."""

    def clean_credential(self) -> Authenticator:
        authenticator = super().clean_credential()
        events.record("login.confirmed", context.request, authenticator.user, by="passkey")
        return authenticator


class AddPasskeyForm(_OurWords, AddWebAuthnForm):
    """A new passkey or security key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        passkey = self.fields["passwordless"]
        passkey.label, passkey.initial = _("Log in with it alone, without a password"), True
        passkey.help_text = _("It then asks for your fingerprint, face or PIN. That is a passkey.")


class RenamePasskeyForm(_OurWords, EditWebAuthnForm):
    """A new name for a passkey or security key."""
