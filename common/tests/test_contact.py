"""OPERATOR_CONTACT is an e-mail address or a web address, and nothing that could hurt a page."""

from __future__ import annotations

import pytest

from common.contact import parse_contact


@pytest.mark.parametrize(
    ("text", "href"),
    [
        ("help@example.com", "mailto:help@example.com"),
        ("ai.help+credits@gw-1.example.com", "mailto:ai.help+credits@gw-1.example.com"),
        ("root@localhost", "mailto:root@localhost"),
        ("https://example.com/help?topic=ai#form", "https://example.com/help?topic=ai#form"),
        ("http://10.0.0.1:8080/", "http://10.0.0.1:8080/"),
    ],
)
def test_addresses_that_people_can_use(text: str, href: str) -> None:
    contact = parse_contact(text)
    assert contact is not None
    assert (contact.text, contact.href) == (text, href)
    assert contact.is_mail == href.startswith("mailto:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "help",
        "example.com/help",
        "javascript:alert(1)",
        "mailto:help@example.com",
        "ftp://example.com",
        "https://",
        "https://user:password@example.com/",
        "https://example.com:99999/",
        'https://example.com/"><script>',
        "https://example.com/a b",
        "Help <help@example.com>",
        "a@b@example.com",
        "help@example.com\nBcc: x@example.com",
        "help@example.com, other@example.com",
        "help%0a@example.com",
        "x" * 65 + "@example.com",
        "x@" + "a." * 130 + "com",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    assert parse_contact(text) is None
