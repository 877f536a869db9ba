"""As in English (gateway/formats/en): an order that sorts. Browsers' date fields need ISO dates."""

from gateway.formats.en.formats import DATE_FORMAT, DATETIME_FORMAT

__all__ = [
    "DATETIME_FORMAT", "DATETIME_INPUT_FORMATS", "DATE_FORMAT", "DATE_INPUT_FORMATS",
    "TIME_INPUT_FORMATS",
]  # fmt: skip

DATE_INPUT_FORMATS = ["%Y-%m-%d", "%d.%m.%Y"]
DATETIME_INPUT_FORMATS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"]
TIME_INPUT_FORMATS = ["%H:%M:%S", "%H:%M"]
