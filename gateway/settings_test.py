"""Settings for the test suite: fixed secrets, a cheap hasher, and no `.env` of the developer.

The environment's DATABASE_URL and REDIS_URL choose the database and the cache. Without them the
suite runs on SQLite and local memory.
"""

import base64
import os
import uuid

os.environ |= {
    "ENV_FILE": os.devnull,
    "SECRET_KEY": "only-for-tests-" + "x" * 50,
    "ENCRYPTION_KEYS": "t1:" + base64.b64encode(b"e" * 32).decode(),
    "KEY_DIGEST_PEPPER": base64.b64encode(b"p" * 32).decode(),
    "SECRET_KEY_FALLBACKS": "", "KEY_DIGEST_PEPPER_FALLBACKS": "",
    "LOG_LEVEL": "WARNING",
    "ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
    # An empty value counts as unset, and keeps the developer's .env out.
    "DEBUG": "", "CELERY_BROKER_URL": "", "CSRF_TRUSTED_ORIGINS": "", "PUBLIC_URL": "",
    "EMAIL_URL": "", "EMAIL_FROM": "", "HSTS_SECONDS": "",
    "PROVIDER_BASE_URL": "", "PROVIDER_API_KEY": "", "GROQ_API_KEY": "", "OPENROUTER_API_KEY": "",
    "PROVIDER_ALLOWED_PARAMETERS": "", "PROVIDER_DEADLINE": "", "PROVIDER_STREAM_DEADLINE": "",
    "SESSION_TTL": "", "SESSION_RETENTION_DAYS": "",
    "API_KEY_PREFIX": "amgai_", "TRUSTED_PROXY_COUNT": "", "SECURE_COOKIES": "",
    "TRUSTED_PROXY_HEADER": "", "REQUIRE_STAFF_MFA": "",
    "LOGIN_IDLE_SECONDS": "", "LOGIN_LIFETIME_SECONDS": "",
    "ALLOW_SIGNUP": "true", "SIGNUP_CREDITS": "100", "SITE_NAME": "",
    "OPERATOR_CONTACT": "", "CURRENCY": "",
}  # fmt: skip
for _name in ("DATABASE_URL", "REDIS_URL"):
    os.environ.setdefault(_name, "")

from gateway.settings import *  # noqa: E402, F403  # the one place where it is the point

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CELERY_TASK_ALWAYS_EAGER = True
# A server gives up early to answer in time. A test on a busy machine waits.
_WAIT_SECONDS = 60
REDIS_TIMEOUT_SECONDS = _WAIT_SECONDS
for _cache in CACHES.values():  # noqa: F405
    if "OPTIONS" in _cache:
        _cache["OPTIONS"] |= {
            "SOCKET_TIMEOUT": _WAIT_SECONDS,
            "SOCKET_CONNECT_TIMEOUT": _WAIT_SECONDS,
        }
_database = DATABASES["default"]["OPTIONS"]  # noqa: F405
if "pool" in _database:
    _database |= {"connect_timeout": _WAIT_SECONDS, "tcp_user_timeout": _WAIT_SECONDS * 1000}
    _database["pool"]["timeout"] = _WAIT_SECONDS
    # The tests' rows need not survive a crash, so no commit waits for the disk.
    _database["options"] = f"{_database.get('options', '')} -c synchronous_commit=off".strip()
else:
    _database["timeout"] = _WAIT_SECONDS
# Redis remembers log-in attempts for longer than a test run.
CACHES["default"] |= {"KEY_PREFIX": f"test-{uuid.uuid4().hex}"}  # noqa: F405
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Otherwise each test's client looks at every collected file, if there are any.
WHITENOISE_AUTOREFRESH = True
# A file, not memory, because threads and processes of the tests must share one database. Each run
# has its own, so that two runs in one checkout do not disturb each other.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    _run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / f"test-{_run}.sqlite3")}  # noqa: F405
