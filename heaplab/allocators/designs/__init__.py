"""The designs, one a module; registry.py finds them here."""
