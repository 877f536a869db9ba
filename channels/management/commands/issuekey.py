"""Creates a new key for a channel."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from channels import api_keys, channel_changes
from channels.errors import UnknownChannel
from channels.key_terms import KeyTerms
from common.commands import ScriptCommand, clear_errors, time_argument


class Command(ScriptCommand):
    help = "Create a key for a channel. Its earlier keys of the same kind end after the overlap."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("channel_id")
        parser.add_argument("--test", action="store_true", help="create a test key")
        parser.add_argument(
            "--overlap-seconds", type=int, help="when to end the earlier keys; default: never"
        )
        parser.add_argument("--name", default="", help="what uses the key")
        parser.add_argument(
            "--expires-at", type=time_argument, help="its end, such as 2027-01-31T12:00:00Z"
        )
        parser.add_argument(
            "--allow-address", action="append", default=[], help="an address range; repeatable"
        )
        parser.add_argument(
            "--allow-model", action="append", default=[], help="a model id; repeatable"
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        with clear_errors(UnknownChannel):
            channel = channel_changes.get_channel(options["channel_id"])
        earlier = list(channel.api_keys.filter(mode="test" if options["test"] else "live"))
        if options["overlap_seconds"] is not None:
            overlap = timedelta(seconds=max(0, options["overlap_seconds"]))
            for api_key in earlier:
                if overlap:
                    api_keys.expire_api_key(api_key=api_key, at=timezone.now() + overlap)
                else:
                    api_keys.revoke_api_key(api_key=api_key)
        with clear_errors():
            terms = KeyTerms(
                options["name"],
                options["expires_at"],
                options["allow_address"],
                options["allow_model"],
            )
            issued = api_keys.issue_api_key(channel=channel, is_test=options["test"], terms=terms)
        result = {"channel_id": str(channel.id), "key": issued.clear, "mode": issued.record.mode}
        self.report(options, result, f"{issued.record.mode} key {issued.clear}")
