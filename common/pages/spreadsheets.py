"""CSV that a spreadsheet opens without running formulas from it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.http import StreamingHttpResponse

# A cell that begins with one of these is a formula:
# https://owasp.org/www-community/attacks/CSV_Injection
# After apostrophes as well, so that whoever reads the file back can take ours away.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class _Line:
    """A file object whose write() returns the line it is given."""

    def write(self, text: str) -> str:
        return text


def lines(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the file line by line. Text never becomes a formula; numbers stay numbers."""
    writer = csv.writer(_Line())
    yield "\ufeff" + writer.writerow(header)  # the byte order mark tells Excel that this is UTF-8
    for row in rows:
        yield writer.writerow([safe(cell) for cell in row])


def safe(cell: Any) -> Any:
    """Return a cell, with an apostrophe in front of text that would begin a formula."""
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}" if _FORMULA.match(cell) else cell


def csv_response(
    name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> StreamingHttpResponse:
    """Return a CSV download that reads the database while it is sent."""
    return StreamingHttpResponse(
        lines(header, rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
