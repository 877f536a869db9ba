"""The staff admin's own pages, besides the model pages that each app registers."""
