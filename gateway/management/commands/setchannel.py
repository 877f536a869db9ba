"""Changes a channel."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from channels.errors import UnknownAccount, UnknownChannel, UnknownModel
from common.commands import ScriptCommand, clear_errors
from gateway import provisioning


class Command(ScriptCommand):
    help = "Change a channel. Options left out stay the same. Applies from the next request."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("channel_id")
        parser.add_argument("--enabled", choices=["yes", "no"])
        provisioning.add_channel_arguments(parser, is_new=False)

    def handle(self, *args: Any, **options: Any) -> None:
        fields = provisioning.given_fields(options)
        if options["enabled"]:
            fields["is_enabled"] = options["enabled"] == "yes"
        with clear_errors(UnknownAccount, UnknownChannel, UnknownModel, ValueError):
            channel = provisioning.set_channel(
                channel_id=options["channel_id"],
                owner_email=options["owner"],
                credit_microcredits=options["credits"],
                model_id=options["model"],
                **fields,
            )
        result = {
            "channel_id": str(channel.id),
            "name": channel.name,
            "enabled": channel.is_enabled,
            "model": channel.model.model_id,
            "requests_per_minute": channel.requests_per_minute,
            "daily_quota": channel.daily_quota,
        }
        self.report(options, result, f"Channel {channel.id} is set: {result}")
