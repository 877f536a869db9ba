"""Which language a page is in, and the person's choice of it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt, csrf_protect
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
            # Only under ASGI would it be something to await.
            return super().__call__(request)  # type: ignore[return-value]
        finally:
            translation.deactivate()


@csrf_exempt
@require_POST
def choose_language(request: HttpRequest) -> HttpResponse:
    """Keep the language in a cookie and, for whoever is logged in, with the person.

    Strangers need no token, because it would take a cookie on every page that they only read. Their
    browser's word that the form is ours is enough. Without that word they need the token.
    """
    is_stranger = not isinstance(request.user, User)
    return _choose(request) if is_stranger and _is_our_form(request) else _check_token(request)


def _is_our_form(request: HttpRequest) -> bool:
    """Return whether the browser says that the form is on our page. No other page can fake that."""
    ours = (f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS)
    return request.headers.get("Origin") in ours


def _choose(request: HttpRequest) -> HttpResponse:
    response: HttpResponse = set_language(request)
    language = request.POST.get("language", "")
    if language in languages.offered() and isinstance(request.user, User):
        User.objects.filter(pk=request.user.pk).update(language=language)
    return response


_check_token = csrf_protect(_choose)


def remember_choice(response: HttpResponse, user: User) -> None:
    """Make the stored choice that of the browser in which the person logs in."""
    if user.language in languages.offered():
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            user.language,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            secure=settings.LANGUAGE_COOKIE_SECURE,
            httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
            samesite="Lax",
        )
