"""The staff admin's own pages, beside the models that each app registers."""
