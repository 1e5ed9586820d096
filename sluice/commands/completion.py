"""``sluice completion``: the shell's TAB key."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes sluice's commands and options.

    \b
    eval "$(sluice completion bash)"                        # in ~/.bashrc
    sluice completion fish > ~/.config/fish/completions/sluice.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "sluice", "_SLUICE_COMPLETE").source())
