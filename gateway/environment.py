"""Reads settings from the environment, strictly, and knows the name of every setting.

The calls in this module define the list of settings. A test compares .env.example and
docs/operations.md with it, and gateway.checks reports names that nearly match one. Error messages
never quote a value that may hold a secret.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from common.contact import parse_contact

TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
# The launcher reads these itself, before Django, and only from the environment and .env.
NEVER_FROM_FILES = {
    "HOST", "PORT", "WORKERS", "THREADS", "PROVIDER_CALLS", "DATA_DIR",
    "PROVIDER_DEADLINE", "PROVIDER_STREAM_DEADLINE", "ALLOW_PLAIN_HTTP",
}  # fmt: skip
# Every setting that was read, with its default.
known: dict[str, str] = {}


class Environment(environ.FileAwareEnv):  # type: ignore[misc]  # the library has no types
    """The environment, taken literally. Records every name that is read."""

    def get_value(self, var: str, *args: Any, **kwargs: Any) -> Any:
        """Return a value that begins with `$` unchanged: a secret is not a reference."""
        known.setdefault(var, "")
        _require_one_source(var)
        try:
            raw = self.ENVIRON.get(var)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ImproperlyConfigured(f"{var}_FILE cannot be read: {reason}.") from None
        if isinstance(raw, str) and raw.startswith("$"):
            return raw
        return super().get_value(var, *args, **kwargs)

    def bool(self, var: str, default: Any = False) -> bool:
        """Return a boolean. Anything but yes or no is refused, not taken for no."""
        known[var] = str(default).lower()
        text = str(self.get_value(var, str, "")).strip().lower()
        if text and text not in TRUE | FALSE:
            raise ImproperlyConfigured(f"{var} must be true or false.")
        return text in TRUE if text else bool(default)


def _require_one_source(name: str) -> None:
    if not os.environ.get(f"{name}_FILE"):
        return
    if name in NEVER_FROM_FILES:
        raise ImproperlyConfigured(f"{name} cannot be read from a file; set {name} itself.")
    if os.environ.get(name):
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set; keep one of them.")


env = Environment()


def read_env_file(path: Path) -> None:
    """Read a file for what the environment does not set. A missing file is ignored."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ImproperlyConfigured(f"{path} cannot be read: {reason}.") from None
    _names_in_file.update(re.findall(r"^(?:export )?([A-Za-z_][A-Za-z_0-9]*)=", text, re.MULTILINE))
    # The environment wins, so that a server can run beside a checkout.
    env.read_env(str(path), overwrite=False)


_names_in_file: set[str] = set()


def read_text(name: str, default: str = "") -> str:
    """Return a text setting. An empty value counts as unset."""
    known[name] = default
    text: str = env.str(name, "")
    if "\n" in text.strip() or "\r" in text.strip():
        raise ImproperlyConfigured(f"{name} must be one line.")
    return text.strip() or default


def read_key(name: str) -> str:
    """Return a provider's key. It is sent as a header, which allows no other characters."""
    text = read_text(name)
    if any(not "!" <= character <= "~" for character in text):
        raise ImproperlyConfigured(
            f"{name} must be a key as the provider shows it: letters, digits and signs of ASCII, "
            "without spaces."
        )
    return text


def read_list(name: str, default: str = "") -> list[str]:
    """Return a comma-separated setting as a list."""
    return [part.strip() for part in read_text(name, default).split(",") if part.strip()]


def read_int(name: str, default: int, *, low: int, high: int) -> int:
    """Return an integer setting. Refuses to start if it is out of bounds or not a number."""
    known[name] = str(default)
    text = env.str(name, "").strip()
    try:
        value = int(text) if text else default
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name} must be a whole number from {low} to {high}.")
    return value


def read_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """Return one of a few words, in any case."""
    text = read_text(name, default).upper()
    if text not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}.")
    return text


def read_url(name: str, schemes: Mapping[str, str] | tuple[str, ...], *, example: str) -> str:
    """Return a URL with one of the `schemes`, a host, and a valid port."""
    text = read_text(name)
    if text:
        parts = split_url(name, text, example=example)
        if parts.scheme.lower() not in schemes or not (parts.hostname or parts.scheme == "unix"):
            raise ImproperlyConfigured(f"{name} must look like {example}.")
    return text


def split_url(name: str, text: str, *, example: str) -> SplitResult:
    """Return the parts of a URL. The port must be a number, user and password must be escaped."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} must look like {example}. In user and password, write special characters "
            "percent-encoded: %2F for /, %40 for @, %3A for :, %23 for #."
        ) from None
    if any(character.isspace() for character in text):
        raise ImproperlyConfigured(f"{name} must look like {example}, without spaces.")
    return parts


def read_origin(name: str) -> str:
    """Return the origin of pages, `https://host` or `https://host:port`, or '' if unset."""
    text = read_text(name).rstrip("/")
    if text and not is_origin(text):
        raise ImproperlyConfigured(
            f"{name} must be an address such as https://gateway.example.com, without a path."
        )
    return text


def is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    is_whole = parts.scheme in ("http", "https") and parts.hostname is not None
    return is_whole and not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)


def read_contact(name: str) -> str:
    """Return an e-mail address or a web address at which people reach the operator, or ''."""
    text = read_text(name)
    if text and parse_contact(text) is None:
        raise ImproperlyConfigured(
            f"{name} must be an e-mail address such as help@example.com, or a web address such as "
            "https://example.com/help without user and password."
        )
    return text


def read_hosts(name: str, default: str) -> list[str]:
    """Return host names as Django compares them: no scheme, no port, no path."""
    hosts = read_list(name, default)
    for host in hosts:
        if not re.fullmatch(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]", host):
            raise ImproperlyConfigured(
                f"{name} takes only host names such as gateway.example.com: no https://, no "
                f"port, no path. This one is refused: {host[:100]!r}."
            )
    return hosts


# --- Mail -----------------------------------------------------------------------------------

# For each scheme: TLS from the first byte ("ssl"), after STARTTLS ("tls"), or none, and the port.
_MAIL = {
    "smtp": ("", 25),
    "smtps": ("ssl", 465),
    "smtp+ssl": ("ssl", 465),
    "smtp+tls": ("tls", 587),
    "smtp+starttls": ("tls", 587),
    "submission": ("tls", 587),
    "submissions": ("ssl", 465),
}
MAIL_EXAMPLE = "smtp+tls://user:password@host:587 or smtps://user:password@host:465"


def mail_settings(url: str) -> dict[str, Any]:
    """Return Django's settings for an EMAIL_URL. Without one, e-mails go to standard output."""
    if not url:
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    scheme = url.partition(":")[0].lower()
    if scheme in environ.Env.EMAIL_SCHEMES and scheme not in _MAIL:
        # For trying things out: files, memory, or nowhere.
        backend: dict[str, Any] = environ.Env.email_url_config(url)
        return backend
    parts = split_url("EMAIL_URL", url, example=MAIL_EXAMPLE)
    if scheme not in _MAIL or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ImproperlyConfigured(f"EMAIL_URL must look like {MAIL_EXAMPLE}.")
    tls, port = _MAIL[scheme]
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or port,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": tls == "tls",
        "EMAIL_USE_SSL": tls == "ssl",
    }


# --- Names that are nearly a setting --------------------------------------------------------

# Other programs read these, from the same file or from names beside ours.
_OF_OTHERS = {
    "ENV_FILE", "PYTHON", "LLM_PORT", "GATEWAY_CHECKED", "DJANGO_SETTINGS_MODULE",
    "POSTGRES_PASSWORD", "HOSTNAME",
}  # fmt: skip
# How similar a name must be to count as a typo.
_LIKENESS = 0.84


def unknown_names() -> dict[str, str]:
    """Return names that are not settings, each with the setting that may be meant, or ''.

    Reports all such names of .env, but only those of the environment that look like a setting,
    because it is full of other programs' names.
    """
    names = {*known, *(f"{name}_FILE" for name in known)}
    found = {}
    for name in sorted({*os.environ, *_names_in_file} - names - _OF_OTHERS):
        swapped = [one for one in names if sorted(one) == sorted(name.upper())]
        near = swapped or difflib.get_close_matches(name.upper(), names, n=1, cutoff=_LIKENESS)
        if near or name in _names_in_file:
            found[name] = near[0] if near else ""
    return found
