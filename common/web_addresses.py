"""What the address of an API may contain. The settings use this before Django is loaded."""

from __future__ import annotations

from urllib.parse import urlsplit


def flaw_of(url: str) -> str:
    """Return in words what is wrong with the base address of an API, or '' if nothing is.

    The words quote no part of it, because what does not belong there may be a secret.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        return "must not contain white space"
    if "\\" in url:
        return "must not contain a backslash"
    if not url.lower().startswith(("http://", "https://")):
        return "must start with https:// or http://"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "must have a host and, if any, a port from 1 to 65535: https://host:8000/v1"
    if "@" in parts.netloc:
        return "must not contain a user or password (the part before @): keys have their own place"
    if not host:
        return "must name a host: https://api.example.com/v1"
    if port == 0:
        return "must have a port from 1 to 65535, or none"
    if "#" in url:
        return "must not have a fragment (the part from # on)"
    return ""
