"""What runs the WSGI application: settings of the launcher, preparation, supervision, workers."""
