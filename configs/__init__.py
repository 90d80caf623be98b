"""Recipes: files for --config, and for each other to import (``configs.common``)."""
