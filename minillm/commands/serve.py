"""`serve`: the API and the page, until a signal ends them."""

from __future__ import annotations

import argparse
import logging
import os
import re
import socket
import sys
from dataclasses import fields

from minillm.errors import OneLineErrors, exit_on_wrong_input
from minillm.serve.limits import Limits

SHUTDOWN_SECONDS = 10.0  # seconds that texts in the making have after a signal


def run(args: list[str]) -> None:
    """Run `serve`.

    Args:
        args: The command line, from the subcommand on.
    """
    options = _parser().parse_args(args[1:])
    with exit_on_wrong_input():
        limits = Limits(**{field.name: getattr(options, field.name) for field in fields(Limits)})
        key = os.environ.get("MINILLM_API_KEY") if options.api_key is None else options.api_key
        if key is not None and not re.fullmatch("[!-~]+", key):
            raise ValueError("--api_key or MINILLM_API_KEY must be letters, digits and signs of ASCII, at least one")
        from minillm.checkpoint.find import find_checkpoint  # only now: --help needs none of it
        from minillm.generation.load import load_numpy

        path = find_checkpoint(options.ckpt_path)
        load_numpy(path)
        try:
            from minillm.serve.api import create_app
            from minillm.serve.server import Server
        except ModuleNotFoundError as error:
            raise ValueError(f"serve needs {error.name}: pip install 'minillm[web]'") from error
        listening = _listen(options.host, options.port)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("minillm.access").setLevel(logging.INFO)
    app = create_app(path, limits, key)
    with listening:
        Server(app, SHUTDOWN_SECONDS).run([listening])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minillm serve",
        description="Serve a page and an API (OpenAI's completions) to talk to trained models.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ckpt_path", default="best", help="a checkpoint file, a run folder, or best or last of the newest run")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 lets other machines in")
    add("--port", type=int, default=8000, help="0 takes a free one")
    add("--api_key", help="what clients have to show; without the flag, MINILLM_API_KEY of the environment")
    add(
        "--max_batch_size",
        type=int,
        default=Limits.max_batch_size,
        help="texts that a model makes at the same time",
    )
    add(
        "--max_waiting",
        type=int,
        default=Limits.max_waiting,
        help="texts that may wait; more get a 503",
    )
    add("--max_seconds", type=float, default=Limits.max_seconds, help="after which a request is given up")
    add("--num_workers", type=int, default=Limits.num_workers, help="processes that make a model's texts")
    return parser


class _Parser(OneLineErrors, argparse.ArgumentParser):
    pass


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        raise ValueError("--host is empty; 0.0.0.0 would let other machines in")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, TypeError) as error:
        number = getattr(error, "errno", None) or 0
        why = os.strerror(number) if number > 0 else error
        raise ValueError(f"cannot listen at {host} port {port}: {why}; give another --host or --port") from error
