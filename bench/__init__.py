"""Benchmarks: `python -m bench` (the chat), `bench.ledger` (one hot account), `bench.micro`."""
