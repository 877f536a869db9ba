"""Django's command, but with the mail server's error in one line."""

from __future__ import annotations

import smtplib
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import sendtestemail


class Command(sendtestemail.Command):
    help = "Send a test e-mail to the given addresses through the mail server of EMAIL_URL."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["email"]:
            raise CommandError(self.missing_args_message)
        try:
            super().handle(*args, **options)
        except (smtplib.SMTPException, OSError) as error:
            server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
            raise CommandError(
                f"The mail server of EMAIL_URL ({server}) refused the e-mail: {_words(error)}. "
                "smtp+tls:// is STARTTLS, mostly on port 587; smtps:// is TLS from the start, "
                "mostly on port 465."
            ) from None
        if not settings.EMAIL_URL:
            self.stderr.write("EMAIL_URL is not set: the e-mail only went to standard output.")
        else:
            self.stdout.write("The mail server accepted the e-mail.")


def _words(error: Exception) -> str:
    """Return what is known about the reason, in words."""
    if isinstance(error, smtplib.SMTPResponseException):
        told = error.smtp_error
        text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        return f"{error.smtp_code} {' '.join(text.split())}"
    if isinstance(error, TimeoutError):
        return f"no answer within {settings.EMAIL_TIMEOUT} s"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
