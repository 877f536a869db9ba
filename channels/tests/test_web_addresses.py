"""The parts that an address may have, because pages, logs and e-mails show it."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from channels.models import Channel, Provider
from common.web_addresses import flaw_of

WITH_USERINFO = [
    "https://user:pass@api.acme.test/v1",
    "https://user@api.acme.test/v1",
    "http://:pass@api.acme.test/v1",
    "https://a%40b:c@api.acme.test",
]


@pytest.mark.parametrize("address", WITH_USERINFO)
@pytest.mark.parametrize(("model", "name"), [(Provider, "base_url"), (Channel, "site_url")])
def test_an_address_holds_no_user_or_password(model: type, name: str, address: str) -> None:
    with pytest.raises(ValidationError):
        model(**{name: address}).clean_fields(
            exclude={field.name for field in model._meta.fields} - {name}  # type: ignore[attr-defined]
        )


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://api.acme.test/v1#part", "fragment"),
        ("https://api.acme.test/v1#", "fragment"),
        ("https://api.acme.test/a b", "white space"),
        ("https://api.acme.test/v1\t", "white space"),
        ("https://api.acme.test/v1\x7f", "white space"),
        ("https://api.acme.test\\v1", "backslash"),
        ("https:///v1", "host"),
        ("https://:8000/v1", "host"),
        ("https://[::1/v1", "host"),
        ("https://api.acme.test:0/v1", "port from 1 to 65535"),
        ("https://api.acme.test:65536/v1", "port from 1 to 65535"),
        ("https://api.acme.test:x/v1", "port from 1 to 65535"),
        ("https://user@api.acme.test/v1", "user or password"),
        ("ftp://api.acme.test/v1", "https://"),
    ],
)
def test_the_address_of_a_provider_bears_a_path_below_it(address: str, words: str) -> None:
    assert words in flaw_of(address)
    fields = {field.name for field in Provider._meta.fields} - {"base_url"}
    with pytest.raises(ValidationError):
        Provider(base_url=address).clean_fields(exclude=fields)


@pytest.mark.parametrize(
    "address",
    [
        "https://api.acme.test/v1",
        "http://10.0.0.1:8000/@v1",
        "http://[::1]:11434/v1",
        "https://acme.test/openai/deployments/d?api-version=2024-10-21",
    ],
)
def test_other_addresses_are_taken(address: str) -> None:
    fields = {field.name for field in Provider._meta.fields} - {"base_url"}
    Provider(base_url=address).clean_fields(exclude=fields)
    assert flaw_of(address) == ""
