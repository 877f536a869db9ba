"""The site: settings, addresses, error rendering, health, Celery."""
