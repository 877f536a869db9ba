"""What the checks of the promises and the benchmarks stand on: processes, databases, servers."""
