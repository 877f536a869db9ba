"""All configuration, from the environment. `.env.example` lists every setting.

Secrets may also come from files: `SECRET_KEY_FILE=/run/secrets/secret_key`, for example.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy

from common.web_addresses import flaw_of
from gateway import __version__
from gateway.environment import (
    env,
    is_origin,
    mail_settings,
    read_choice,
    read_contact,
    read_env_file,
    read_hosts,
    read_int,
    read_key,
    read_list,
    read_origin,
    read_text,
    read_url,
    split_url,
)

BASE_DIR = Path(__file__).resolve().parent.parent
# For modules that must not import the gateway package.
VERSION = __version__

read_env_file(Path(env.str("ENV_FILE", str(BASE_DIR / ".env"))))

# --- Core ---------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = env.str("SECRET_KEY", "")
ENCRYPTION_KEYS = env.str("ENCRYPTION_KEYS", "")
KEY_DIGEST_PEPPER = env.str("KEY_DIGEST_PEPPER", "")
for _name in ("SECRET_KEY", "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER"):
    if not globals()[_name]:
        raise ImproperlyConfigured(
            f"{_name} is not set. `make setup` writes the secrets of a new installation to .env; "
            "an existing one starts only with the secrets it was created with."
        )
# Earlier values, needed during a rotation: they still open what was encrypted under them.
SECRET_KEY_FALLBACKS = read_list("SECRET_KEY_FALLBACKS")
KEY_DIGEST_PEPPER_FALLBACKS = env.str("KEY_DIGEST_PEPPER_FALLBACKS", "")

ALLOWED_HOSTS = read_hosts("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_FAILURE_VIEW = "common.api.refusals.csrf_failure"
CSRF_TRUSTED_ORIGINS = read_list("CSRF_TRUSTED_ORIGINS")
if not all(map(is_origin, CSRF_TRUSTED_ORIGINS)):
    raise ImproperlyConfigured(
        "CSRF_TRUSTED_ORIGINS takes origins such as https://gateway.example.com, without a path."
    )
# The address of this installation in e-mails, in code to copy, and in the API reference.
PUBLIC_URL = read_origin("PUBLIC_URL")
DATA_DIR = Path(read_text("DATA_DIR", str(BASE_DIR / "var")))
# Used by the launcher, but checked here for every other command.
HOST = read_text("HOST", "127.0.0.1")
PORT = read_int("PORT", 8000, low=1, high=65_535)
WORKERS = read_int("WORKERS", 2, low=1, high=1024)
ALLOW_PLAIN_HTTP = env.bool("ALLOW_PLAIN_HTTP", False)
ROOT_URLCONF = "gateway.urls"
WSGI_APPLICATION = "gateway.wsgi.application"

INSTALLED_APPS = [
    "gateway.apps.GatewayConfig",
    # Before unfold, some of whose static files and templates it replaces.
    "dashboard.apps.DashboardConfig",
    "conversations.apps.ConversationsConfig",
    "billing.apps.BillingConfig",
    # Listed by class, because the Django Channels distribution has a package of the same name, and
    # a mix-up must stop the start (docs/decisions/0003).
    "channels.apps.GatewayChannelsConfig",
    "rest_framework",
    "drf_spectacular",
    # Before the admin, whose templates it replaces. “Basic”, because both sites are our own
    # classes.
    "unfold.apps.BasicAppConfig",
    "dashboard.apps.StaffAdminConfig",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django.contrib.humanize",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "common.api.base.RequestMiddleware",
    "common.api.base.ApiMiddleware",
    # From here on only for pages.
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "dashboard.login.languages.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    # After everything that finds out who asks, and how they logged in. May this person do this now?
    "dashboard.login.gate.Gate",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.frame.site_name",
                "dashboard.login.context.doors",
                "dashboard.login.context.languages_offered",
            ],
            # Its `date` filter replaces Django's, so that every page writes dates by language.
            "builtins": ["dashboard.templatetags.local_dates"],
        },
    }
]

# --- Database -----------------------------------------------------------------------------

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
THREADS = read_int("THREADS", 64, low=1, high=4096)


def database_settings(url: str) -> dict[str, Any]:
    """Return Django's settings for a DATABASE_URL. Without one: SQLite under DATA_DIR."""
    example = "postgres://user:password@host:5432/name or sqlite:////path/to/file"
    if url and not url.startswith("sqlite:"):
        parts = split_url("DATABASE_URL", url, example=example)
        if parts.scheme not in ("postgres", "postgresql"):
            raise ImproperlyConfigured("DATABASE_URL must start with postgres:// or sqlite:///.")
        if not parts.path.strip("/"):
            raise ImproperlyConfigured(f"DATABASE_URL names no database; it looks like {example}.")
    # A connection is held for milliseconds and never while a provider answers, so the pool can be
    # far smaller than the number of threads.
    size = read_int("DATABASE_POOL_SIZE", min(THREADS, 20), low=1, high=1000)
    is_prepared = env.bool("DATABASE_PREPARED_STATEMENTS", True)
    config: dict[str, Any] = environ.Env.db_url_config(
        url or f"sqlite:///{DATA_DIR / 'gateway.sqlite3'}"
    )
    if config["ENGINE"].endswith("sqlite3"):
        try:
            # All conversations are in here, so only this user may read it.
            DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ImproperlyConfigured(
                f"DATA_DIR {DATA_DIR} cannot be created: {error.strerror}."
            ) from None
        config["OPTIONS"] = {
            # A writer takes its lock when the transaction begins, and waits for it. With the
            # default, most of many concurrent writers fail at once.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
        config["CONN_MAX_AGE"] = None
    else:
        config["CONN_MAX_AGE"] = 0  # Django requires this with a pool
        config["OPTIONS"] = {
            "connect_timeout": 3,
            # If the network drops the database's packets, give up within seconds. The first value
            # (milliseconds) limits sending a statement, the others limit waiting for its result.
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **config.get("OPTIONS", {}),
            "pool": {
                "min_size": 1,
                "max_size": size,
                "timeout": 5,
                # After each failed attempt to connect, a pool waits twice as long, for up to five
                # minutes by default. A database that was down for one minute would then be used
                # again only a minute after its return. After giving up, the pool starts again with
                # the next request.
                "reconnect_timeout": 5,
            },
        }
        # Statements are planned once for each connection, not for each execution, which saves half
        # of PostgreSQL's CPU for a message. A pgbouncer with transaction pooling must support
        # prepared statements (1.21).
        if is_prepared:
            config["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 1}
    return config


DATABASES = {"default": database_settings(read_text("DATABASE_URL"))}

# --- Cache and broker ---------------------------------------------------------------------

REDIS_URL = read_url(
    "REDIS_URL", ("redis", "rediss", "unix"), example="redis://:password@host:6379/0"
)
# Redis is a cache and a broker, never the authority. Losing it may cost 100 ms, not a request.
REDIS_TIMEOUT_SECONDS = 0.1
_REDIS: dict[str, Any] = {
    "LOCATION": REDIS_URL,
    "KEY_PREFIX": "gateway",
    # Never read values that version 1 pickled.
    "VERSION": 2,
    "OPTIONS": {
        # Not pickle, so that write access to Redis cannot run code here.
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        "SOCKET_TIMEOUT": REDIS_TIMEOUT_SECONDS,
        "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_SECONDS,
        # Errors are for RedisOrMemory. Ignored ones would look like missing values.
        "IGNORE_EXCEPTIONS": False,
    },
}
_MEMORY = {"BACKEND": "common.cache.Memory"}
CACHES: dict[str, dict[str, Any]] = {
    # allauth counts log-ins here.
    "default": _REDIS | {"BACKEND": "common.redis_cache.RedisOrMemory"} if REDIS_URL else _MEMORY,
    # /readyz asks this one, which reports when Redis is unreachable.
    "shared": _REDIS | {"BACKEND": "django_redis.cache.RedisCache"} if REDIS_URL else _MEMORY,
}

CELERY_APPLICATION = "gateway.celery.app"
CELERY_BROKER_URL = read_text("CELERY_BROKER_URL")
if CELERY_BROKER_URL and "://" not in CELERY_BROKER_URL:
    raise ImproperlyConfigured("CELERY_BROKER_URL must look like redis://host:6379/1.")

# --- Mail ---------------------------------------------------------------------------------

# Without it, e-mails are written to standard output.
EMAIL_URL = read_text("EMAIL_URL")
vars().update(mail_settings(EMAIL_URL))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = read_text("EMAIL_FROM", "gateway@localhost")
if "@" not in DEFAULT_FROM_EMAIL:
    raise ImproperlyConfigured("EMAIL_FROM must be an e-mail address.")
EMAIL_TIMEOUT = 10

# --- Accounts and pages -------------------------------------------------------------------

# The password that `make setup` chose for the first login. Ignored once it is changed.
FIRST_LOGIN_PASSWORD = env.str("FIRST_LOGIN_PASSWORD", "")
AUTH_USER_MODEL = "channels.User"
AUTHENTICATION_BACKENDS = ["dashboard.login.backend.PersonBackend"]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
# Whether strangers may create an account, and how many credits it gets then.
ALLOW_SIGNUP = env.bool("ALLOW_SIGNUP", False)
SIGNUP_CREDITS = read_int("SIGNUP_CREDITS", 0, low=0, high=1_000_000_000)
ACCOUNT_ADAPTER = "dashboard.login.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    name: f"dashboard.login.forms.{form}"
    for name, form in {
        "login": "LogInForm",
        "signup": "SignUpForm",
        "add_email": "ChangeEmailForm",
        "change_password": "ChangePasswordForm",
        "set_password": "SetPasswordForm",
        "reset_password": "ResetPasswordForm",
        "reset_password_from_key": "ResetPasswordKeyForm",
        "reauthenticate": "ReauthenticateForm",
    }.items()
}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
# Each person has one address. A new one replaces the old one once it is verified.
ACCOUNT_CHANGE_EMAIL = True
# Only in the browser that signed up. The link alone logs nobody in.
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
# Mail people whenever their password, address, or second factors change.
ACCOUNT_EMAIL_NOTIFICATIONS = True
# Signing up twice, or resetting the password of an unknown address, looks the same as usual. Only
# the e-mail says what is wrong.
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = True
# Counted in Redis, or in each process without it (common/redis_cache.py). Wrong passwords are
# counted for each client address and, from anywhere, for each name. That includes one-time codes.
ACCOUNT_RATE_LIMITS = {
    "login": "20/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "signup": "10/m/ip",
    "reset_password": "10/m/ip,3/5m/key",
    "confirm_email": "1/m/key",
}
# How long a password or second factor counts as recent (dashboard/login/deeds.py).
ACCOUNT_REAUTHENTICATION_TIMEOUT = 15 * 60
ACCOUNT_REAUTHENTICATION_REQUIRED = True
# A log-in ends after this much idle time, and at the latest this long after it began.
LOGIN_IDLE_SECONDS = read_int("LOGIN_IDLE_SECONDS", 7 * 86400, low=60, high=366 * 86400)
LOGIN_LIFETIME_SECONDS = read_int("LOGIN_LIFETIME_SECONDS", 30 * 86400, low=60, high=366 * 86400)
SESSION_ENGINE = "dashboard.login.store"
SESSION_COOKIE_AGE = LOGIN_LIFETIME_SECONDS
# Whether staff must have a second factor. Each account decides this for its own members.
REQUIRE_STAFF_MFA = env.bool("REQUIRE_STAFF_MFA", False)
MFA_ADAPTER = "dashboard.login.adapter.SecondFactorAdapter"
MFA_FORMS = {
    name: f"dashboard.login.forms.{form}"
    for name, form in {
        "authenticate": "CodeForm",
        "reauthenticate": "CodeAgainForm",
        "activate_totp": "ActivateAppForm",
        "add_webauthn": "AddPasskeyForm",
        "edit_webauthn": "RenamePasskeyForm",
        "authenticate_webauthn": "PasskeyForm",
        "login_webauthn": "PasskeyLogInForm",
        "reauthenticate_webauthn": "PasskeyAgainForm",
    }.items()
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
# scrypt needs memory as well as time. PBKDF2 hashes are replaced at the next log-in.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
SECURE_COOKIES = env.bool("SECURE_COOKIES", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
if SECURE_COOKIES:
    # With this prefix, browsers accept these cookies only from this host over HTTPS. No subdomain
    # can replace them.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_SSL_REDIRECT = SECURE_COOKIES
# How long browsers insist on HTTPS after the first visit. Sent with API responses too.
SECURE_HSTS_SECONDS = read_int(
    "HSTS_SECONDS", 31_536_000 if SECURE_COOKIES else 0, low=0, high=10 * 31_536_000
)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.bool("HSTS_PRELOAD", False)
# Browsers allow passkeys over plain HTTP only on localhost. With HTTPS the origin is checked.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not SECURE_COOKIES
# How many reverse proxies are in front. Only their X-Forwarded-* headers are trusted.
TRUSTED_PROXY_COUNT = read_int("TRUSTED_PROXY_COUNT", 0, low=0, high=10)
# The header in which proxies write the client's address, by WSGI's name. WSGI does not distinguish
# hyphen and underscore. So behind a proxy that passes X_Forwarded_For through, only a name without
# either is safe from forgery.
_PROXY_HEADER = read_text("TRUSTED_PROXY_HEADER", "X-Forwarded-For")
TRUSTED_PROXY_META = f"HTTP_{_PROXY_HEADER.upper().replace('-', '_')}"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY_COUNT else None
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = [
    "models.W040",  # that SQLite ignores an index's included columns is known
    "security.W005",  # subdomains without TLS are the operator's responsibility
    "security.W021",  # and so is the preload list, which browsers never forget
]

LANGUAGE_CODE = "en"
# The languages that people can choose, each by its own name. One joins when its catalogue is
# complete (docs/languages.md).
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "dashboard" / "locale"]
# The choice in this browser. The person's own is stored with them and becomes this at log-in.
LANGUAGE_COOKIE_NAME = "language"
LANGUAGE_COOKIE_AGE = 365 * 86400
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_SECURE = SECURE_COOKIES
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
# For lists in the staff admin: times say that they are UTC.
FORMAT_MODULE_PATH = "gateway.formats"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- Dashboard ----------------------------------------------------------------------------

SITE_NAME = read_text("SITE_NAME", "AI gateway")
# How people reach the operator. Pages show it; requests for credits are mailed to it.
OPERATOR_CONTACT = read_contact("OPERATOR_CONTACT")
# What providers' prices and the price of a credit are in. The margins' page only names it.
CURRENCY = read_text("CURRENCY", "USD")
if not re.fullmatch("[A-Z]{3}", CURRENCY):
    raise ImproperlyConfigured("CURRENCY must be three capital letters, such as USD or EUR.")
ACCOUNT_EMAIL_SUBJECT_PREFIX = f"{SITE_NAME}: "
MFA_TOTP_ISSUER = SITE_NAME
_LOOKS: dict[str, Any] = {
    "SITE_TITLE": SITE_NAME,
    "SITE_HEADER": SITE_NAME,
    "SITE_SYMBOL": "hub",
    "SITE_ICON": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "dashboard.frame.favicon"}],
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": ["dashboard.frame.styles", "dashboard.frame.frame_styles"],
    "SCRIPTS": [
        "dashboard.frame.scripts",
        "dashboard.frame.draft_scripts",
        "dashboard.frame.finder_scripts",
    ],
}
UNFOLD = _LOOKS | {
    "SITE_HEADER": format_lazy(gettext_lazy("{site} staff"), site=SITE_NAME),
    "SITE_URL": "dashboard.sites.console_home",
    "STYLES": [*_LOOKS["STYLES"], "dashboard.frame.staff_styles"],
    "SCRIPTS": [*_LOOKS["SCRIPTS"], "dashboard.frame.staff_scripts"],
    "SIDEBAR": {"navigation": "dashboard.staff.navigation.sidebar"},
    "GLOBAL_CALLBACK": "dashboard.staff.standing.describe",
    "ACCOUNT": {"navigation": "dashboard.frame.account_links"},
}
CONSOLE = _LOOKS | {
    "SITE_URL": None,
    "SIDEBAR": {"navigation": "dashboard.console.navigation.sidebar"},
    "ACCOUNT": {"navigation": "dashboard.frame.account_links"},
}

# --- API ----------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    # Permissions and rates are on each view. common.api.base reads and writes JSON.
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "common.api.errors.render_exception",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "AI gateway",
    "DESCRIPTION": "Send a visitor's message, get an AI reply. One key for each channel.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api",
    "DEFAULT_GENERATOR_CLASS": "gateway.schema.generator.Generator",
    "POSTPROCESSING_HOOKS": ["gateway.schema.generator.name_paths_without_slash"],
}
API_KEY_PREFIX = read_text("API_KEY_PREFIX", "amgai_")
if not re.fullmatch("[A-Za-z0-9_-]{1,27}", API_KEY_PREFIX):
    raise ImproperlyConfigured("API_KEY_PREFIX takes up to 27 letters, digits, _ and -.")
MAX_BODY_BYTES = 64 * 1024
# Well-formed but unknown keys from one address in a minute, before it must wait.
FAILED_KEYS_PER_MINUTE = read_int("FAILED_KEYS_PER_MINUTE", 300, low=1, high=1_000_000)

# --- Providers and sessions ---------------------------------------------------------------

PROVIDER_BASE_URL = read_text("PROVIDER_BASE_URL").rstrip("/")
if PROVIDER_BASE_URL and (_flaw := flaw_of(PROVIDER_BASE_URL)):
    raise ImproperlyConfigured(f"PROVIDER_BASE_URL {_flaw}.")
PROVIDER_API_KEY = read_key("PROVIDER_API_KEY")
# Like Route.allowed_parameters, for the provider of PROVIDER_BASE_URL, which has no row.
PROVIDER_ALLOWED_PARAMETERS = read_list("PROVIDER_ALLOWED_PARAMETERS")
if any(not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) for name in PROVIDER_ALLOWED_PARAMETERS):
    raise ImproperlyConfigured(
        "PROVIDER_ALLOWED_PARAMETERS takes names of letters, digits and _, separated by commas: "
        "repeat_last_n,mirostat."
    )
# The keys of seeded providers, by the name of the setting in their row.
PROVIDER_KEYS = {name: read_key(name) for name in ("GROQ_API_KEY", "OPENROUTER_API_KEY")}
PROVIDER_ALLOW_PRIVATE_ADDRESSES = env.bool("PROVIDER_ALLOW_PRIVATE_ADDRESSES", False)
PROVIDER_DEADLINE = read_int("PROVIDER_DEADLINE", 60, low=1, high=3600)
PROVIDER_STREAM_DEADLINE = read_int("PROVIDER_STREAM_DEADLINE", 300, low=1, high=3600)
if PROVIDER_STREAM_DEADLINE < PROVIDER_DEADLINE:
    raise ImproperlyConfigured(
        "PROVIDER_STREAM_DEADLINE must not be below PROVIDER_DEADLINE: a stream may take that long "
        "to begin."
    )
# How long a stream may be silent before the provider counts as unreachable.
PROVIDER_STREAM_SILENCE = 15
# How many provider calls one process has in flight. Further requests are answered with 503.
PROVIDER_CALLS = read_int("PROVIDER_CALLS", 400, low=1, high=10_000)
# How many of these one account may have. If there is only one account, it may have all.
PROVIDER_CALLS_PER_ACCOUNT = read_int(
    "PROVIDER_CALLS_PER_ACCOUNT", max(1, PROVIDER_CALLS // 2), low=1, high=10_000
)
HOLD_GRACE_SECONDS = 10
SESSION_TTL = read_int("SESSION_TTL", 24 * 3600, low=60, high=366 * 24 * 3600)
SESSION_RETENTION_DAYS = read_int("SESSION_RETENTION_DAYS", 30, low=1, high=36_500)
# How long a message may wait for earlier turns of its session, and how many may wait.
SESSION_WAIT_SECONDS = 30
SESSION_MAX_WAITING = 8

# --- Logs ---------------------------------------------------------------------------------

LOG_LEVEL = read_choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "common.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "propagate": True, "level": "INFO"},
        # Both would repeat what the access line and the error's own line say.
        "django.request": {"level": "CRITICAL"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "django.security.csrf": {"level": "CRITICAL"},
        "django.server": {"handlers": [], "propagate": False},
        # One line for each lost connection would be too many. Affected requests log their own line.
        "psycopg.pool": {"level": "ERROR"},
    },
}
