"""Passes that change how precisely weights are stored."""
