"""The ``sluice`` command. Each subcommand is a module, loaded when it is called: ``sluice --help`` stays quick."""

from importlib import import_module

import click

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "See it work": {
        "demo": ("demo:demo", "Attackers blocked within seconds, on this machine."),
        "dev": ("dev:dev", "Keep the local cloud running, with the admin API and the page."),
    },
    "Try rules on your own logs": {
        "replay": ("replay:replay", "Whom the rules would have blocked, when, for how long."),
        "explain": ("explain:explain", "One client's time line."),
        "suggest": ("suggest:suggest", "Limits that fit the traffic, as a rule file."),
        "compare": ("compare:compare", "Two rule sets, or AWS WAF's rate-based rule, side by side."),
        "report": ("report:report", "What rules would have done, as one page with plots."),
    },
    "Operate": {
        "status": ("status:status", "How it is going."),
        "blocks": ("blocks:blocks", "Who is blocked, why, until when."),
        "block": ("blocks:block", "Block networks."),
        "unblock": ("blocks:unblock", "Lift blocks."),
        "allowlist": ("allowlist:allowlist", "Who is never blocked."),
        "allow": ("allowlist:allow", "Add a network to the allowlist."),
        "disallow": ("allowlist:disallow", "Take a network off the allowlist."),
        "client": ("clients:client", "Everything about one client."),
        "top": ("clients:top", "The busiest clients against their limits."),
        "rules": ("rules:rules", "Show, plan, apply and roll back rules."),
        "pause": ("control:pause", "Stop enforcing."),
        "resume": ("control:resume", "Enforce again."),
        "breaker": ("control:breaker", "Reset the circuit breaker."),
        "audit": ("audit:audit", "Who changed what, and how to undo it."),
        "token": ("token:token", "Create, list and revoke tokens."),
    },
    "Deploy": {
        "setup": ("setup:setup", "Create what a stage needs; shows the plan and its cost first."),
        "doctor": ("doctor:doctor", "What is wrong with a stage, and how to mend it."),
        "teardown": ("teardown:teardown", "Take a stage away, without a trace."),
        "completion": ("completion:completion", "Completion for your shell."),
    },
}
"""Subcommands in the order of the help: module and attribute in ``sluice.commands``, and what it does."""

COMMANDS = {name: command for section in SECTIONS.values() for name, command in section.items()}


class Lazy(click.Group):
    """A group that imports a subcommand's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"sluice.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, about) for name, (_, about) in section.items()])


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sluice")
def main() -> None:
    """Rate limits for client addresses on AWS, enforced within seconds."""
