"""PostgreSQL and Redis for .ci/run, which then needs neither's command line."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql


def answers(url: str) -> bool:
    """Return whether the server at a postgres:// or redis:// address accepts us."""
    try:
        if url.startswith("redis"):
            return bool(redis.Redis.from_url(url, socket_connect_timeout=2).ping())
        psycopg.connect(url, connect_timeout=2).close()
    except (OSError, psycopg.Error, redis.RedisError):
        return False
    return True


def create(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def drop(url: str, name: str) -> None:
    """Drop the database, and the test databases named after it."""
    with psycopg.connect(url, autocommit=True) as connection:
        pattern = name.replace("_", r"\_") + "%"
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s OR datname LIKE %s",
            (pattern, r"test\_" + pattern),
        ).fetchall()
        for (found,) in rows:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(found)))


def database_url(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def empty_redis_database(url: str) -> str:
    """Return the address of an empty Redis database, which we may empty again later."""
    for number in range(15, 0, -1):
        candidate = database_url(url, str(number))
        client = redis.Redis.from_url(candidate)
        # The mark keeps a simultaneous second run out of it.
        if client.dbsize() == 0 and client.set("gateway-ci", os.getppid(), nx=True):
            return candidate
    raise SystemExit("No empty Redis database is left; set CI_REDIS_URL to another server.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(command: str, *arguments: str) -> None:
    match command:
        case "answers":
            sys.exit(not answers(arguments[0]))
        case "create":
            create(*arguments)
        case "drop":
            drop(*arguments)
        case "url":
            print(database_url(*arguments))
        case "redis-database":
            print(empty_redis_database(*arguments))
        case "flush":
            redis.Redis.from_url(*arguments).flushdb()
        case "port":
            print(free_port())
        case _:
            raise SystemExit(f"unknown command {command!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
