"""The owners' console: one module of plain views for each part."""
