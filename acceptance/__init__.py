"""The product's promises as executable checks: real processes, threads, servers, and faults.

    python -m acceptance                     the short set, on PostgreSQL and on SQLite
    python -m acceptance --only B3,B9        some of it; --database pg|sqlite|both
    python -m acceptance --long --seed 7     the long set, repeatable

`rig.py` and `tests/harness` build what a check runs against, and `mock_provider.py` plays the AI
provider. Each promise has its own file with its check.
"""
