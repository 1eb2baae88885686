"""`python -m sshtool`."""

from sshtool.cli import app

app()
