"""Dates in Django's own pages as everywhere else. Every time is in UTC and says so.

Browsers' date fields need ISO dates, which DATE_INPUT_FORMATS begins with.
"""

DATETIME_FORMAT = r"j M Y, H:i:s \U\T\C"
DATE_FORMAT = "j M Y"
