"""The version of r2seg-agent, in one place."""

__version__ = "0.1.0"
