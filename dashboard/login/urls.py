"""Pages under /accounts/ that are the gateway's own, not allauth's."""

from __future__ import annotations

from django.urls import path

from dashboard.login import languages, mail_again, mail_choices, passkeys, sessions

urlpatterns = [
    path("2fa/webauthn/login/", passkeys.log_in, name="mfa_login_webauthn"),
    path(
        "2fa/webauthn/reauthenticate/", passkeys.reauthenticate, name="mfa_reauthenticate_webauthn"
    ),
    path("language/", languages.choose_language, name="set_language"),
    path("mail-again/", mail_again.send_again, name="account_mail_again"),
    path("mails/", mail_choices.choose_mails, name="account_mails"),
    path("sessions/", sessions.list_sessions, name="account_sessions"),
    path("sessions/end/", sessions.end_session, name="account_end_session"),
    path("sessions/end-all/", sessions.end_all_sessions, name="account_end_all_sessions"),
]
