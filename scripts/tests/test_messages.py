"""The catalogues: what is committed is compiled from what translators wrote, and complete."""

from __future__ import annotations

import re
from string import Formatter

import polib
import pytest
from django.conf import settings

from scripts import messages

PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd%]")


@pytest.mark.parametrize("language", messages.list_languages())
def test_what_is_committed_is_compiled_from_the_catalogue(language: str) -> None:
    for path, content in messages.compiled(language).items():
        assert path.read_bytes() == content, f"{path.name}: run `make messages ARGS=--compile`"


@pytest.mark.parametrize("language", messages.list_languages())
def test_a_translation_has_the_placeholders_of_its_text(language: str) -> None:
    for domain in messages.DOMAINS:
        path = messages.catalogue_path(language, domain)
        for entry in polib.pofile(str(path)) if path.exists() else []:
            assert not entry.fuzzy, entry.msgid
            for text in (entry.msgstr, *entry.msgstr_plural.values()):
                many = entry.msgid_plural or entry.msgid
                assert not text or placeholders(text) in (
                    placeholders(entry.msgid),
                    placeholders(many),
                ), entry.msgid


def placeholders(text: str) -> tuple[set[str], set[str | None]]:
    is_braced = "{" in text and "%(" not in text
    braced = {name for _, name, _, _ in Formatter().parse(text)} if is_braced else set()
    return set(PLACEHOLDER.findall(text)), braced - {None}


@pytest.mark.parametrize("language", [code for code, _ in settings.LANGUAGES if code != "en"])
def test_a_language_that_is_offered_is_complete(language: str) -> None:
    for domain in messages.DOMAINS:
        path = messages.catalogue_path(language, domain)
        missing = [one.msgid for one in polib.pofile(str(path)) if not one.translated()]
        assert not missing
