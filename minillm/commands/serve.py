"""`serve`: run the HTTP server with the API and the web page until a signal stops it."""

from __future__ import annotations

import argparse
import os
import re
import socket
from dataclasses import fields

from minillm.commands.command_parser import CommandParser
from minillm.commands.device_flags import add_device_flags, chosen_device
from minillm.errors import exit_on_wrong_input
from minillm.serve.limits import Limits

SHUTDOWN_SECONDS = 10.0  # time for running requests to finish after a signal


def run(args: list[str]) -> None:
    """Run `serve`.

    Args:
        args: The command line, starting with the subcommand.
    """
    options = _parser().parse_args(args[1:])
    with exit_on_wrong_input():
        device = chosen_device(options)
        if device is not None:
            device.fabric()  # checks that it is available
        settings = {"num_workers": 1 if device else Limits.num_workers, **vars(options)}
        limits = Limits(**{field.name: settings[field.name] for field in fields(Limits)})
        key = os.environ.get("MINILLM_API_KEY") if options.api_key is None else options.api_key
        if key is not None and not re.fullmatch("[!-~]+", key):
            raise ValueError("--api_key or MINILLM_API_KEY must be one or more printable ASCII characters, no spaces")
        from minillm.checkpoint.find import find_checkpoint  # imported late, to keep --help fast
        from minillm.generation.load import load_numpy

        path = find_checkpoint(options.ckpt_path)
        load_numpy(path)
        try:
            from minillm.serve.api import Access, create_app
            from minillm.serve.logs import log_to_stderr
            from minillm.serve.server import Server, connection_limit
        except ModuleNotFoundError as error:
            raise ValueError(f"serve needs {error.name}: pip install 'minillm[web]'") from error
        server_socket = _listen(options.host, options.port)
    access = Access(key, (options.host, *options.allowed_hosts), tuple(options.cors_origin))
    with server_socket, log_to_stderr():
        app = create_app(path, limits, access, device)
        Server(app, SHUTDOWN_SECONDS, limits.keep_alive_seconds, connection_limit()).run([server_socket])


def _parser() -> CommandParser:
    parser = CommandParser(
        "serve", "Serve trained models with a web page and an API that is compatible with OpenAI's completions."
    )
    add = parser.add_argument
    add("--ckpt_path", default="best", help="a checkpoint file, a run folder, or best or last of the newest run")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 accepts connections from other machines")
    add("--port", type=int, default=8000, help="port to listen on; 0 chooses a free one")
    add("--api_key", help="API key that clients must send; without it, the environment variable MINILLM_API_KEY")
    add(
        "--max_batch_size",
        type=int,
        default=Limits.max_batch_size,
        help="maximum number of sequences that a model generates concurrently",
    )
    add(
        "--max_waiting",
        type=int,
        default=Limits.max_waiting,
        help="maximum number of queued sequences; further requests get status 503",
    )
    add("--max_seconds", type=float, default=Limits.max_seconds, help="request timeout in seconds")
    workers_help = f"number of worker processes per model, by default {Limits.num_workers}, and 1 with --accelerator"
    add("--num_workers", type=int, default=argparse.SUPPRESS, help=workers_help)
    add_device_flags(parser)
    add(
        "--keep_alive_seconds",
        type=int,
        default=Limits.keep_alive_seconds,
        help="time after which an idle connection is closed",
    )
    add(
        "--allowed_hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="host names that requests may name, besides localhost, --host and IP addresses",
    )
    add(
        "--cors_origin",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="origins of other sites whose pages may send requests, such as https://example.org",
    )
    return parser


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        raise ValueError("--host is empty: pass 127.0.0.1, or 0.0.0.0 to accept connections from other machines")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError) as error:
        code = getattr(error, "errno", None) or 0
        reason = os.strerror(code) if code > 0 else error
        raise ValueError(f"cannot listen on {host} port {port}: {reason}; pass another --host or --port") from error
