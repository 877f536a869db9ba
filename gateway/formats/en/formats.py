"""Dates in an order that sorts. Every time is in UTC and says so."""

DATETIME_FORMAT = r"Y-m-d H:i:s \U\T\C"
DATE_FORMAT = "Y-m-d"
