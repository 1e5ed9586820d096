"""``sluice completion``: print the shell's completion script."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    \b
    eval "$(sluice completion bash)"                        # in ~/.bashrc
    sluice completion fish > ~/.config/fish/completions/sluice.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(ctx.find_root().command, {}, "sluice", "_SLUICE_COMPLETE").source())
