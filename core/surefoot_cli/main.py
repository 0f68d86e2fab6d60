"""The root command: options, errors as one sentence and an exit code, and the nouns."""

from __future__ import annotations

import sys
from typing import Any

import click

from surefoot import SurefootError
from surefoot.plugins import Plugins
from surefoot_cli import audit, calls, config, demo, doctor, plugins, replay, runs, store, tools
from surefoot_cli.context import Context

__all__ = ["cli", "main"]


class _Root(click.Group):
    """A group whose commands fail with one sentence and the exit code of the error's class."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SurefootError as exc:
            click.echo(f"surefoot: {exc}", err=True)
            ctx.exit(exc.exit_code)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", metavar="URL", help="The store to work on; default SUREFOOT_STORE, else .surefoot/surefoot.db.")
@click.version_option(package_name="surefoot")
@click.pass_context
def cli(ctx: click.Context, store: str | None) -> None:
    """See what governed agents did, settle what is in doubt, check the installation."""
    ctx.obj = Context(store)


for command in (runs.runs, calls.calls, audit.audit, store.store, tools.tools, plugins.plugins, config.config, doctor.doctor, demo.demo):
    cli.add_command(command)
for verb in (replay.replay, replay.export):
    runs.runs.add_command(verb)


def main() -> None:
    """Run the command line."""
    Plugins.default().cli(cli)
    try:
        cli()
    except BrokenPipeError:  # the reader of a pipe went away: nothing to say
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
