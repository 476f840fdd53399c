"""The version, and the only place that has it; setup.cfg reads it from here."""

__version__ = "0.1.0"
