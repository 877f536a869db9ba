"""How dates are written, by language, as FORMAT_MODULE_PATH finds it."""
