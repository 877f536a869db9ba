"""Which language a page is in, and the person's choice of it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.views.decorators.http import require_POST
from django.views.i18n import set_language

from channels.models import User
from common import languages


class LanguageMiddleware(LocaleMiddleware):
    """Chooses the language by the browser's cookie, else by Accept-Language.

    Afterwards the thread speaks English again, because it may answer the API next.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            answer: HttpResponseBase = super().__call__(request)  # type: ignore[assignment]
            return answer
        finally:
            translation.deactivate()


@require_POST
def choose_language(request: HttpRequest) -> HttpResponse:
    """Keep the language in a cookie and, for whoever is logged in, with the person."""
    response: HttpResponse = set_language(request)
    language = request.POST.get("language", "")
    if language in languages.offered() and isinstance(request.user, User):
        User.objects.filter(pk=request.user.pk).update(language=language)
    return response


def remember_choice(response: HttpResponse, user: User) -> None:
    """Make the stored choice that of the browser in which the person logs in."""
    if user.language in languages.offered():
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            user.language,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            secure=settings.LANGUAGE_COOKIE_SECURE,
            httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
            samesite=settings.LANGUAGE_COOKIE_SAMESITE,
        )
