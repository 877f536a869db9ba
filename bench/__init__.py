"""Benchmarks: `python -m bench` measures the chat.

Run separately: `bench.growth`, `bench.inflight`, `bench.start`, `bench.pair`, `bench.ledger` (one
hot account), and `bench.micro` (each stop of a request).
"""
