"""Asks a provider for the names of the models that it serves."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from channels import routes
from channels.errors import ProviderError
from channels.models import Provider, Route
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.openai_models import list_served_models
from channels.route_tests import NO_KEY, explain
from common.commands import READER_CHECKS, ScriptCommand

DEADLINE_SECONDS = 30.0


class Command(ScriptCommand):
    help = "List a provider's own names of its models, as routes need them."
    requires_system_checks = READER_CHECKS

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--provider",
            default=routes.DEFAULT_PROVIDER,
            help="a provider of the staff's pages; without it, the one of PROVIDER_BASE_URL",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            names = list_served_models(_client_of(options["provider"]), deadline=deadline)
        except ProviderError as error:
            raise CommandError(explain(error.reason)) from None
        self.report(options, {"models": names}, "\n".join(names))


def _client_of(name: str) -> OpenAiCompatibleProvider:
    if name == routes.DEFAULT_PROVIDER:
        client = routes.default_client_of("")
        if client is None:
            raise CommandError("PROVIDER_BASE_URL is not set. Name a provider with --provider.")
        return client
    provider = Provider.objects.filter(name=name).first()
    if provider is None:
        raise CommandError(f"There is no provider '{name}'.")
    client = routes.client_of(Route(provider=provider))
    if client is None:
        raise CommandError(explain(NO_KEY))
    return client
