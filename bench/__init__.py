"""Benchmarks: `python -m bench` (the chat), and of their own `bench.growth`, `bench.inflight`,
`bench.start`, `bench.ledger` (one hot account), `bench.micro` (each stop of a request)."""
