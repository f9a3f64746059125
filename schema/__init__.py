"""The ground both processes stand on: tables, lifecycle, settings, errors, vault and wire."""
