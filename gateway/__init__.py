"""The site: settings, URLs, error rendering, health, Celery."""

# The one version of the product, its API, and its image. CHANGELOG.md says what is in it, and
# `make version` copies it to the files that cannot read it here.
__version__ = "0.1.0"
