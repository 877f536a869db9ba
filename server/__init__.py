"""Runs the WSGI application: launcher settings, preparation, supervisor, workers."""
