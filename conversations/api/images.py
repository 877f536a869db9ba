"""Images in messages: which addresses a part may have. The gateway neither fetches nor keeps them.

Protocol: https://platform.openai.com/docs/guides/images-vision
"""

from __future__ import annotations

import binascii
from typing import Any
from urllib.parse import urlsplit

TYPES = ("png", "jpeg", "webp", "gif")
DETAILS = ("auto", "low", "high")
RULE = (
    "Must be an object whose url is an https address, or data:image/"
    f"{', '.join(TYPES)};base64 with an image in it; detail, if any, is {', '.join(DETAILS)}."
)


def is_image(value: Any) -> bool:
    """Return whether this is a valid `image_url` of a part."""
    if not isinstance(value, dict) or not value.keys() <= {"url", "detail"}:
        return False
    url, detail = value.get("url"), value.get("detail")
    return isinstance(url, str) and (_is_https(url) or _is_data(url)) and detail in (None, *DETAILS)


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and url.split() == [url]
    except ValueError:
        return False


def _is_data(url: str) -> bool:
    head, _, data = url.partition(",")
    if head not in {f"data:image/{kind};base64" for kind in TYPES}:
        return False
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False
