"""The ``sluice`` command. Each subcommand is a module, loaded when it is called: ``sluice --help`` stays quick."""

from importlib import import_module

import click

COMMANDS = {
    "demo": "sluice.commands.demo:demo",
    "dev": "sluice.commands.dev:dev",
    "status": "sluice.commands.status:status",
    "blocks": "sluice.commands.blocks:blocks",
    "block": "sluice.commands.blocks:block",
    "unblock": "sluice.commands.blocks:unblock",
    "allowlist": "sluice.commands.allowlist:allowlist",
    "allow": "sluice.commands.allowlist:allow",
    "disallow": "sluice.commands.allowlist:disallow",
    "client": "sluice.commands.clients:client",
    "top": "sluice.commands.clients:top",
    "rules": "sluice.commands.rules:rules",
    "pause": "sluice.commands.control:pause",
    "resume": "sluice.commands.control:resume",
    "breaker": "sluice.commands.control:breaker",
    "audit": "sluice.commands.audit:audit",
    "token": "sluice.commands.token:token",
    "completion": "sluice.commands.completion:completion",
}
"""Subcommand to module and attribute, in the order of the help."""


class Lazy(click.Group):
    """A group that imports a subcommand's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sluice")
def main() -> None:
    """Rate limits for client addresses on AWS, enforced within seconds."""
