"""What an address may hold that pages, logs and mails show."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from channels.models import Channel, Provider

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


@pytest.mark.parametrize("address", ["https://api.acme.test/v1", "http://10.0.0.1:8000/@v1"])
def test_other_addresses_are_taken(address: str) -> None:
    fields = {field.name for field in Provider._meta.fields} - {"base_url"}
    Provider(base_url=address).clean_fields(exclude=fields)
