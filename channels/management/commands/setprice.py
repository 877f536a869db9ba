"""Sets the prices of a model."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from channels import catalogue
from channels.errors import UnknownModel
from common.commands import ScriptCommand, clear_errors, credits_argument

# The value that removes an optional price.
NO_PRICE = "none"

_FIELDS = {
    "per_reply": "price_per_reply_microcredits",
    "per_1k_input": "price_per_1k_input_tokens_microcredits",
    "per_1k_output": "price_per_1k_output_tokens_microcredits",
    "per_1k_cached_input": "price_per_1k_cached_input_tokens_microcredits",
}


class Command(ScriptCommand):
    help = "Set a model's prices in credits. Prices left out stay. Applies from the next message."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--model", required=True)
        parser.add_argument("--per-reply", type=credits_argument)
        parser.add_argument("--per-1k-input", type=credits_argument)
        parser.add_argument("--per-1k-output", type=credits_argument)
        parser.add_argument(
            "--per-1k-cached-input",
            type=_price_or_none,
            help=f"'{NO_PRICE}': cached input costs the same as other input.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        prices = {
            field: None if options[name] == NO_PRICE else options[name]
            for name, field in _FIELDS.items()
            if options[name] is not None
        }
        if not prices:
            options_there = ", ".join(f"--{name.replace('_', '-')}" for name in _FIELDS)
            raise CommandError(f"Give at least one of {options_there}.")
        with clear_errors(UnknownModel):
            model = catalogue.set_price(model_id=options["model"], **prices)
        described = catalogue.describe_model(model, is_current=False)
        self.report(options, described, f"{model.model_id}: {described['price']}")


def _price_or_none(text: str) -> int | str:
    return NO_PRICE if text.lower() == NO_PRICE else credits_argument(text)
