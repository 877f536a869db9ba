#!/usr/bin/env python3
"""Extract what is to be translated, and compile what is (docs/languages.md).

messages.py            extract (needs GNU gettext), then compile
messages.py --compile  only compile: .po to .mo, and to the scripts' catalogue
messages.py --check    fail if extracting would change a catalogue
messages.py --merge de FILE.po   take over the translations of another catalogue, then compile
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import polib

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "dashboard" / "locale"
SCRIPT_CATALOGUES = ROOT / "dashboard" / "static" / "dashboard" / "texts"
# `django` holds the texts of pages and e-mails, `djangojs` those of scripts.
DOMAINS = ("django", "djangojs")
# No page shows what these write.
IGNORED = [
    ".venv*", "tests", "acceptance", "bench", "scripts", "var", "docs", "alpine", "conftest.py",
    "texts", "management", "migrations",
]  # fmt: skip
# Lines of the header that would differ between two runs, or between two people.
HEADER = ("Language", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Plural-Forms")


def list_languages() -> list[str]:
    """Return the languages that have a catalogue."""
    return sorted(path.name for path in LOCALE.iterdir() if path.is_dir())


def catalogue_path(language: str, domain: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{domain}.po"


def extract() -> None:
    """Write every text of templates, Python, and scripts into each language's catalogue."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings_test")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import django  # here, because compiling needs no settings
    from django.core.management import call_command
    from django.core.management.commands.makemessages import Command

    class Extract(Command):
        # A guess would have to be checked, and the tests refuse it. An empty text stands out.
        msgmerge_options = [*Command.msgmerge_options, "--no-fuzzy-matching"]

    django.setup()
    for domain in DOMAINS:
        call_command(
            Extract(),
            locale=list_languages(),
            domain=domain,
            ignore_patterns=IGNORED,
            no_location=True,
            no_obsolete=True,
            no_wrap=True,
            verbosity=0,
        )
        for language in list_languages():
            path = catalogue_path(language, domain)
            if path.exists():
                save(polib.pofile(str(path)), path)


def save(catalogue: polib.POFile, path: Path) -> None:
    """Write a catalogue in one order and without dates, so that branches merge."""
    catalogue.metadata = {name: catalogue.metadata.get(name, "") for name in HEADER}
    catalogue.metadata["Language"] = path.parent.parent.name
    catalogue.header = ""
    catalogue.metadata_is_fuzzy = False
    catalogue.wrapwidth = 0
    for entry in catalogue:
        entry.comment = entry.tcomment = ""
    catalogue.sort(key=lambda entry: (entry.msgid, entry.msgctxt or ""))
    catalogue.save(str(path))


def compiled(language: str) -> dict[Path, bytes]:
    """Return what each file compiled from a language's catalogues must contain."""
    pages = polib.pofile(str(catalogue_path(language, "django")))
    found = {catalogue_path(language, "django").with_suffix(".mo"): pages.to_binary()}
    path = catalogue_path(language, "djangojs")
    if path.exists():
        script = SCRIPT_CATALOGUES / f"{language}.js"
        found[script] = script_catalogue(polib.pofile(str(path))).encode()
    return found


def script_catalogue(catalogue: polib.POFile) -> str:
    """Return a script that holds a catalogue for dashboard.js."""
    texts: dict[str, Any] = {}
    for entry in catalogue.translated_entries():
        forms = [entry.msgstr_plural[index] for index in sorted(entry.msgstr_plural)]
        texts[entry.msgid] = forms or entry.msgstr
    # "nplurals=2; plural=(n != 1);"
    plural = catalogue.metadata["Plural-Forms"].partition("plural=")[2]
    body = json.dumps(texts, ensure_ascii=False, indent=1, sort_keys=True)
    return (
        "// Written by scripts/messages.py from dashboard/locale; edit it there.\n"
        f"window.gatewayTexts = {{ plural: (n) => Number({plural.strip(' ;')}), texts: {body} }};\n"
    )


def compile_all() -> None:
    for language in list_languages():
        for path, content in compiled(language).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def merge(language: str, file: str) -> None:
    """Take over the translations of a file. Both domains look into it."""
    theirs = {(entry.msgctxt, entry.msgid): entry for entry in polib.pofile(file)}
    for domain in DOMAINS:
        path = catalogue_path(language, domain)
        ours = polib.pofile(str(path)) if path.exists() else polib.POFile()
        for entry in ours:
            found = theirs.get((entry.msgctxt, entry.msgid))
            if found and found.translated():
                entry.msgstr, entry.msgstr_plural = found.msgstr, found.msgstr_plural
        if ours:
            save(ours, path)


def texts_now() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(LOCALE.rglob("*.po"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--merge", nargs=2, metavar=("LANGUAGE", "FILE"))
    chosen = parser.parse_args()
    if chosen.merge:
        merge(*chosen.merge)
    elif not chosen.compile:
        if not shutil.which("xgettext"):
            print("GNU gettext is not installed, so nothing was extracted.", file=sys.stderr)
            return 0 if chosen.check else 1
        before = texts_now()
        extract()
        after = texts_now()
        if chosen.check:
            for path, content in before.items():
                path.write_bytes(content)
            for path in after.keys() - before.keys():
                path.unlink()
            if before == after:
                return 0
            stale = sorted(path.name for path in after if before.get(path) != after[path])
            print(f"Run `make messages`: {', '.join(stale)} would change.", file=sys.stderr)
            return 1
    compile_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
