"""Staff pages of people, channels, keys, models and providers.

Accounts are in gateway/admin.py, as their page looks into every app.
"""

from channels.admin import catalogue, channel, people, records

__all__ = ["catalogue", "channel", "people", "records"]
