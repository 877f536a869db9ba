"""Creates a channel with its keys."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from channels.errors import UnknownModel
from common.commands import ScriptCommand, clear_errors
from gateway import provisioning


class Command(ScriptCommand):
    help = "Create a channel with a live and a test key, and its account and user if missing."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        provisioning.add_channel_arguments(parser, is_new=True)

    def handle(self, *args: Any, **options: Any) -> None:
        with clear_errors(UnknownModel, ValueError):
            channel, api_key, test_key = provisioning.create_channel(
                owner_email=options["owner"],
                model_id=options["model"],
                credit_microcredits=options["credits"],
                **provisioning.given_fields(options),
            )
        self.report(
            options,
            {"channel_id": str(channel.id), "api_key": api_key, "test_key": test_key},
            f"Channel {channel.id}\nLive key {api_key}\nTest key {test_key}",
        )
