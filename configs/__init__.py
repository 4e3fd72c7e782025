"""Presets of the command line: one YAML a command."""
