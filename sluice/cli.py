"""The ``sluice`` command. A subcommand's module is imported only when needed, so ``sluice --help`` is fast."""

from importlib import import_module

import click

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "See it work": {
        "demo": ("demo", "Watch attackers being blocked within seconds, on this machine."),
        "dev": ("dev", "Run Sluice on this machine, with the admin API and the page, until interrupted."),
    },
    "Try rules on your own logs": {
        "replay": ("replay", "Show which clients a rule set would have blocked, from log files."),
        "explain": ("explain", "Explain why a client would have been blocked, or how close to the limits it came."),
        "suggest": ("suggest", "Suggest limits that fit the traffic in log files, as a rule file."),
        "compare": ("compare", "Show which clients two rule sets would block differently, and how soon."),
        "decode": ("decode", "Show what the production decoder makes of lines, files or a recorded Lambda event."),
        "report": ("report", "Write a page that shows what a rule set would have done."),
    },
    "Operate": {
        "status": ("status", "Show what is enforced, blocked and counted."),
        "blocks": ("blocks", "List blocked networks, with rule, reason and remaining time."),
        "block": ("blocks", "Block addresses or networks by hand."),
        "unblock": ("blocks", "Lift blocks, by network or by filter."),
        "allowlist": ("allowlist", "List networks that are never blocked, or that some rules do not block."),
        "allow": ("allowlist", "Add networks to the allowlist."),
        "disallow": ("allowlist", "Remove networks from the allowlist."),
        "feeds": ("feeds", "Read lists of networks that others publish, such as those of crawlers."),
        "client": ("clients", "Show everything about one client."),
        "top": ("clients", "Show the busiest clients against their limits."),
        "rules": ("rules", "Show, check, plan, apply, change and roll back rules."),
        "history": ("history", "List which clients were blocked, or would have been, why and until when."),
        "trends": ("trends", "Show requests, offences and blocks over time, and those of a day and a week earlier."),
        "pause": ("control", "Stop rules from blocking new clients."),
        "resume": ("control", "Let rules block again after a pause."),
        "breaker": ("control", "Reset circuit breakers."),
        "records": ("records", "List, show and remove stored records that cannot be read."),
        "audit": ("audit", "List changes, with who made them and how to undo them."),
        "token": ("token", "Create, list and revoke tokens of the admin API."),
        "openapi": ("openapi", "Print the OpenAPI document of the admin API."),
    },
    "Deploy": {
        "cost": ("cost", "Estimate what a stage costs per month. Needs neither credentials nor a network."),
        "setup": ("setup", "Create the resources that the functions need, after showing the plan and its cost."),
        "deploy": ("deploy", "Deploy the functions, their event sources, schedule and admin API."),
        "stack": ("stack", "Deploy, delete or package a stage as one CloudFormation stack."),
        "doctor": ("doctor", "Find problems with a deployed stage, and their remedies. Changes nothing."),
        "detach": (
            "detach",
            "Detach a web ACL, distribution, load balancer, log group or bucket from a stage, and forget it.",
        ),
        "teardown": ("teardown", "Remove everything that setup and deploy created for a stage."),
        "migrate": ("migrate", "Move from Security Automations for AWS WAF, or from fail2ban, after showing the plan."),
        "gather": ("gather", "Move blocks and histories to where version 0.2 finds them, after a rollback."),
        "completion": ("completion", "Print the shell's completion script."),
    },
}
"""Subcommands in the order of the help: module in ``sluice.commands``, and first line of its help.

The line is repeated here so that the help need not import every command; a test compares the two.
"""

COMMANDS = {name: command for section in SECTIONS.values() for name, command in section.items()}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when the subcommand is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"sluice.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, about) for name, (_, about) in section.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sluice")
def main() -> None:
    """Rate limits for client addresses on AWS, enforced within seconds."""
