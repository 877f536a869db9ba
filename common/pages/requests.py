"""What the console, the staff's pages and the log-in pages all do with a request."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import Resolver404, resolve

P = ParamSpec("P")


def read_term(request: HttpRequest, name: str, *, most: int = 200) -> str:
    """Return at most so many characters of a parameter, without any NUL."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:most]


def post_only(view: Callable[P, HttpResponseBase]) -> Callable[P, HttpResponseBase]:
    """Accept only POST. Redirect anybody who opens the address, as after a log-in, to its page.

    Goes below the decorator that checks permissions, so that a stranger learns nothing from it.
    """

    @wraps(view)
    def page(*args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        request = args[0]
        assert isinstance(request, HttpRequest)
        if request.method in ("GET", "HEAD"):
            return redirect(_page_above(request))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        return view(*args, **kwargs)

    page.is_post_only = True  # type: ignore[attr-defined]
    return page


def _page_above(request: HttpRequest) -> str:
    """Return the nearest readable address above the request's, with the same query."""
    path = request.path_info
    while path != "/":
        path = path.rstrip("/").rpartition("/")[0] + "/"
        try:
            view = resolve(path).func
        except Resolver404:
            continue
        if not getattr(view, "is_post_only", False):
            break
    query = request.META.get("QUERY_STRING")
    return f"{path}?{query}" if query else path
