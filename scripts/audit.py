"""Check the locked packages for known vulnerabilities, and their licences (make audit).

pip-audit reads the vulnerabilities from PyPI's advisories. If it cannot reach them, this prints so
and goes on, so that a build without a network does not fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-fuzz.txt")

# Licences that a program under the MIT licence may ship with or import. LGPL and MPL bind changes
# to the package itself, and we make none.
ALLOWED_LICENCES = re.compile(
    r"\b(MIT|BSD|Apache|PSF|ISC|LGPL|MPL|Mozilla Public License|Unlicense|0BSD)\b", re.IGNORECASE
)
# Licences that would bind a program which only imports the package.
REFUSED_LICENCES = re.compile(r"(?<!L)\b(AGPL|GPL|SSPL|BUSL|Commons Clause)", re.IGNORECASE)


def main() -> int:
    is_clean = True
    for lock in LOCKS:
        is_clean &= has_no_known_vulnerability(lock)
    return 0 if has_only_allowed_licences(LOCKS[0]) and is_clean else 1


def has_no_known_vulnerability(lock: str) -> bool:
    """Report the known vulnerabilities of a lock file's packages."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip_audit", "-r", lock, "--disable-pip", "--no-deps",
         "--progress-spinner", "off", "--format", "json"],
        cwd=BASE_DIR, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        packages: list[dict[str, Any]] = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = asked.stderr.strip().rpartition("\n")[2]
        print(f"{lock}: not audited, because the advisories cannot be reached ({reason[:200]}).")
        return True
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        print(f"{lock}: not audited, because the advisories cannot be reached.")
        return True
    found = [
        f"{package['name']} {package['version']}: {problem['id']}, fixed in "
        f"{', '.join(problem['fix_versions']) or 'no version yet'}"
        for package in audited
        for problem in package["vulns"]
    ]
    print(f"{lock}: {len(audited)} of {len(packages)} packages audited, {len(found)} problems.")
    for line in found:
        print(f"  {line}")
    return not found


def has_only_allowed_licences(lock: str) -> bool:
    """Report the server's packages whose licence is not on the list above."""
    licences = {name: licence_of(name) for name in installed_names(lock)}
    refused = {name: licence for name, licence in licences.items() if not is_allowed(licence)}
    print(f"{lock}: {len(licences)} licences read, {len(refused)} not allowed.")
    for name, licence in refused.items():
        print(f"  {name}: {licence or 'no licence named'}")
    return not refused


def installed_names(lock: str) -> Iterator[str]:
    """Yield the packages of a lock file that this machine needs."""
    for name in re.findall(r"^([a-z0-9._-]+)==", (BASE_DIR / lock).read_text(), re.MULTILINE):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another Python or system
        yield name


def licence_of(name: str) -> str:
    """Return the licence that a package states: SPDX, or the older fields."""
    told = metadata.metadata(name).json
    classifiers = [c for c in told.get("classifier", ()) if c.startswith("License ::")]
    return str(told.get("license_expression") or "; ".join(classifiers) or told.get("license", ""))


def is_allowed(licence: str) -> bool:
    """Return whether a licence, or one that may be chosen instead, is allowed."""
    choices = re.split(r" OR |; ", licence)
    return any(
        ALLOWED_LICENCES.search(choice) and not REFUSED_LICENCES.search(choice)
        for choice in choices
    )


if __name__ == "__main__":
    sys.exit(main())
