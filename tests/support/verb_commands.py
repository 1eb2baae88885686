"""The commands of all verbs, as Typer registers them."""

from __future__ import annotations

import typer
from typer.models import CommandInfo

from sshtool.cli.app import VERBS, verb_type
from sshtool.cli.verbs import add


def verb_commands() -> list[CommandInfo]:
    app = typer.Typer()
    for name in VERBS:
        add(app, name, verb_type(name))
    return app.registered_commands
