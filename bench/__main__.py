"""python -m bench [--peers] [--quick]: measure the chat on PostgreSQL and record the result."""

from __future__ import annotations

import argparse

from bench import chat, peers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--peers", action="store_true", help="also measure LiteLLM and Portkey, in var/peers/"
    )
    parser.add_argument(
        "--quick", action="store_true", help="take a minute; print, but do not append the result"
    )
    told = parser.parse_args()
    run = peers.run if told.peers else chat.run
    run(chat.QUICK if told.quick else chat.FULL, is_kept=not told.quick)


if __name__ == "__main__":
    main()
