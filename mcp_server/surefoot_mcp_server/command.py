"""``surefoot mcp``: put surefoot between an MCP client and its server."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from surefoot import AdapterUnavailable, Guard, IntegrityError, UsageError
from surefoot_cli.context import Context, as_json, print_json
from surefoot_mcp_server.asking import tools_at, tools_of
from surefoot_mcp_server.endpoint import Endpoint, guarding
from surefoot_mcp_server.headers import Door
from surefoot_mcp_server.lines import sink_of, source_of
from surefoot_mcp_server.people import void
from surefoot_mcp_server.pins import Pins
from surefoot_mcp_server.servers import Server, named, read
from surefoot_mcp_server.wrapping import unwrap, wrap

__all__ = ["mcp"]

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := next((text for text, (tool, _, reader) in zip(given, pairs, strict=True) if not tool or not reader), None):
        raise click.BadParameter(f"{wrong!r} is not of the form TOOL=READER")
    return {tool: reader for tool, _, reader in pairs}


_SERVERS = (
    click.option("--upstream", metavar="URL", help="The server, where it speaks HTTP, instead of CMD."),
    click.option(
        "--servers",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A file with several servers behind one endpoint, and what is said of their tools, instead of CMD.",
    ),
)
_GOVERNING = (
    click.option("--name", metavar="NAME", help="Name of the server in the ledger; default: made of its command."),
    click.option("--read", "reads", multiple=True, metavar="PATTERN", help="Tools that change nothing: they may always run again."),
    click.option("--idempotent", multiple=True, metavar="PATTERN", help="Tools for which twice is as good as once."),
    click.option("--unsafe", multiple=True, metavar="PATTERN", help="Tools whose call, in doubt, waits for a person."),
    click.option("--once", multiple=True, metavar="PATTERN", help="Tools whose equal calls in the --scope are one call, without a key."),
    click.option("--require-key", "keyed", multiple=True, metavar="PATTERN", help="Tools that are refused without an idempotency key."),
    click.option("--probe", "probes", multiple=True, metavar="TOOL=READER", callback=_pairs, help="The read tool to ask when in doubt."),
    click.option("--scope", metavar="NAME", envvar="SUREFOOT_MCP_SCOPE", help="What calls belong together, and how far a doubt reaches."),
    click.option("--policy", metavar="SPEC", help="A policy, as a policy plugin reads it."),
    click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait for a tool; after that it is in doubt."),
    click.option("--wait", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait for the same call in flight."),
)


def governing(command: F) -> F:
    """Add the options that say how calls are governed."""
    for option in reversed((*_SERVERS, *_GOVERNING)):
        command = option(command)
    return command


def _servers(file: Path | None, command: tuple[str, ...], upstream: str | None, **said: Any) -> list[Server]:
    """Return the servers that the options name. Raises :class:`~surefoot.UsageError` for options that a file's servers have there."""
    if file is None:
        return [named(command, upstream, said.pop("name"), said.pop("timeout"), **said)]
    given = [name for name, value in said.items() if value not in (None, (), {}, "")]
    if command or upstream or given:
        raise UsageError(
            f"with --servers, say in {file} what the servers are and what their tools do; only --policy and --wait go beside it"
        )
    return read(file)


@click.group()
def mcp() -> None:
    """Govern the tool calls between an MCP client and its server."""


mcp.add_command(wrap)
mcp.add_command(unwrap)


@mcp.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@governing
@click.option("--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to go on for at the end of the input.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[CMD [ARGS]...]")
@click.pass_obj
def run(
    context: Context,
    /,
    command: tuple[str, ...],
    servers: Path | None,
    upstream: str | None,
    policy: str | None,
    wait: float,
    grace: float,
    **said: Any,
) -> None:
    """Run CMD as an MCP server on standard input and output, and govern its tool calls.

    Put it before the server's command in a client's configuration. Options of surefoot stand before CMD.
    """
    found = _servers(servers, command, upstream, **said)
    guard = guarding(found, context.url, policy=policy, wait=wait)
    _log_to_stderr()
    sys.exit(asyncio.run(_connected(Endpoint(found, guard, grace), guard)))


async def _connected(endpoint: Endpoint, guard: Guard) -> int:
    """Connect the client on standard input and output; return the exit code."""
    await endpoint.recover()
    client, sink = await source_of(sys.stdin.fileno()), await sink_of(sys.stdout.fileno())
    try:
        connection = await endpoint.connect(client, sink)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, connection.end)
        return await connection.run()
    finally:
        client.close()
        sink.close()
        guard.close()


def _one_of(file: Path, name: str | None) -> Server:
    found = {server.rules.server: server for server in read(file)}
    if name not in found:
        raise UsageError(f"say with --name which server of {file} it is: {', '.join(found)}")
    return found[name]


@mcp.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="Name of the server in the ledger, as for 'run' and 'serve'.")
@click.option("--dry-run", is_flag=True, help="Show what has changed, approve nothing.")
@as_json
@_SERVERS[0]
@_SERVERS[1]
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[CMD [ARGS]...]")
@click.pass_obj
def pin(
    context: Context,
    /,
    command: tuple[str, ...],
    name: str | None,
    upstream: str | None,
    servers: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Approve the tools of the server that CMD starts, or of the one called NAME in a FILE, as they are now.

    From then on a call of a tool that is not as it was approved is refused by the proxy, until this is run again. Exits with 8 where
    something has changed and --dry-run is given.
    """
    known = _one_of(servers, name) if servers is not None else named(command, upstream, name, None)
    server = known.rules.server
    tools = asyncio.run(tools_at(known.url, known.authorization) if known.url else tools_of(known.command, known.environment))
    with Guard(context.url) as guard:
        pins = Pins(guard, server)
        found = pins.differences(tools)
        if not dry_run:
            pins.approve(tools)
            void(guard, {f"{server}/{change.tool}" for change in found}, "the tool's definition changed, and was approved anew")
    if as_json:
        print_json(server=server, approved=not dry_run, tools=sorted(tools), changes=[change.as_json() for change in found])
    else:
        for change in found:
            click.echo(str(change))
        click.echo(f"{server}: {len(tools)} tools, {len(found)} changes{'' if dry_run else ', approved'}")
    if dry_run and found:
        raise IntegrityError(f"the tools of {server} are not what was approved; approve them with 'surefoot mcp pin'")


@mcp.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@governing
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0: any, told on standard error."
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A host name to be asked for by, beside this machine's own.")
@click.option("--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="An origin whose pages may ask, as https://host.")
@click.option("--forward-authorization", is_flag=True, help="Pass the client's credentials on to the server; default: they stay here.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[CMD [ARGS]...]")
@click.pass_obj
def serve(
    context: Context,
    /,
    command: tuple[str, ...],
    servers: Path | None,
    upstream: str | None,
    host: str,
    port: int,
    policy: str | None,
    wait: float,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    *,
    forward_authorization: bool,
    **said: Any,
) -> None:
    """Serve MCP servers over streamable HTTP, and govern their tool calls.

    With --upstream, point the client at this address and the server's path; with CMD or --servers, at this address and /mcp.
    SUREFOOT_MCP_AUTHORIZATION is sent to the server at URL as Authorization.
    """
    found = _servers(servers, command, upstream, **said)
    if forward_authorization and not upstream:
        raise UsageError("--forward-authorization is for one server with --upstream URL: to others the client's credentials do not pass")
    try:
        from surefoot_mcp_server import serving
    except ImportError as exc:
        raise AdapterUnavailable(f"serving over HTTP needs {exc.name}; run: pip install 'surefoot[mcp-gateway]'") from exc

    guard = guarding(found, context.url, policy=policy, wait=wait)
    _log_to_stderr()
    listening = serving.Listening(host, port, Door(hosts, origins), forward_authorization)
    sys.exit(asyncio.run(serving.serve(guard, found, listening)))


@mcp.command()
@click.option("--by", metavar="NAME", help="Who may settle calls and decide approvals through it; recorded. Default: nobody.")
@click.pass_obj
def control(context: Context, /, by: str | None) -> None:
    """Be an MCP server on standard input and output that answers what happened in the store's runs.

    With --by, the person who uses the client settles calls in doubt and decides approvals through it.
    """
    from surefoot_mcp_server.control import server

    with context.guard() as guard:
        server(guard, by).run()


def _log_to_stderr() -> None:
    """Say what goes wrong where a client shows it: standard output belongs to the protocol."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("surefoot: %(message)s"))
    logger = logging.getLogger("surefoot")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
