"""``sluice openapi``: the document of the admin API."""

import json
from pathlib import Path

import click

from chalicelib.api.openapi import document
from sluice.commands.shared.options import NEW_FILE, auth_option


@click.command()
@auth_option("Authentication of callers; must match the deployment's ADMIN_AUTH.")
@click.option("--out", type=NEW_FILE, help="Write to this file.")
def openapi(auth: str, out: Path | None) -> None:
    """Print the OpenAPI document of the admin API.

    Needs no deployment.

    \b
    sluice openapi --out openapi.json
    """
    text = json.dumps(document(auth), indent=2) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
