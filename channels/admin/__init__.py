"""Staff pages for people, channels, keys, models and providers.

The page for accounts is in dashboard/admin.py, because it shows data of every app.
"""

from channels.admin import catalogue, channel, keys, people, prices, records

__all__ = ["catalogue", "channel", "keys", "people", "prices", "records"]
