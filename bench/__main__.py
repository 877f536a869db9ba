"""python -m bench [--peers] [--quick]: the chat on PostgreSQL, measured and written down."""

from __future__ import annotations

import argparse

from bench import chat, peers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--peers", action="store_true", help="beside LiteLLM and Portkey, installed in var/peers/"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute; printed, not added to docs/performance.md"
    )
    told = parser.parse_args()
    run = peers.run if told.peers else chat.run
    run(chat.QUICK if told.quick else chat.FULL, is_kept=not told.quick)


if __name__ == "__main__":
    main()
