"""Application: the routes of the API and the files of the web page."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from minillm import __version__
from minillm.checkpoint.run_folder import group_by_run
from minillm.files import escape_line_separators
from minillm.generation.load import Device
from minillm.generation.threads import num_parameters
from minillm.serve import inside, runs, verbatim
from minillm.serve.completions import CompletionTask, decode, encode
from minillm.serve.errors import RefusedError, error_body, handle_errors
from minillm.serve.guard import RequestGuard
from minillm.serve.limits import Limits
from minillm.serve.models import Models
from minillm.serve.requests import CompletionRequest, DetokenizeRequest, TokenizeRequest
from minillm.serve.responses import (
    Completion,
    Detokenized,
    ErrorResponse,
    Health,
    Model,
    ModelDetails,
    ModelList,
    Run,
    RunDetails,
    RunList,
    Tokenized,
    TokenizerInfo,
)

PAGE = Path(__file__).parent / "page"
PUBLIC_ROUTES = {"/health"}  # that need no API key, besides the files of the page and the schema
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "The request is wrong."},
    "5XX": {"model": ErrorResponse, "description": "The request cannot be served now."},
}
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # no proxy holds events back


@dataclass(frozen=True)
class Access:
    """Who may send requests.

    Args:
        api_key: Key that clients must send; None if they need none.
        allowed_hosts: Host names of this server besides `localhost` and IP addresses.
        cors_origins: Origins of other sites whose pages may send requests.
    """

    api_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()


async def require_api_key(request: Request) -> None:
    """Refuse a request without the API key, unless its route is public."""
    api_key: str | None = request.app.state.access.api_key
    if api_key is None or request.scope["route"].path in PUBLIC_ROUTES:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), api_key.encode()):
        message = "this server needs an API key: send the header Authorization: Bearer KEY"
        raise RefusedError(401, message, code="invalid_api_key")


router = APIRouter(responses=ERRORS, dependencies=[Depends(require_api_key)])
router.post("/attention")(inside.show_attention)
router.post("/attention_maps")(inside.show_attention_maps)
router.post("/logit_lens")(inside.show_logit_lens)
router.post("/verbatim_matches")(verbatim.show_verbatim_matches)


def create_app(ckpt_path: Path, limits: Limits, access: Access | None = None, device: Device | None = None) -> FastAPI:
    """Create the application.

    Args:
        ckpt_path: The default checkpoint.
        limits: Limits on the load.
        access: Who may send requests; by default everybody.
        device: Device of PyTorch; None generates with NumPy.
    """
    access = access or Access()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.models = Models(ckpt_path, limits, device)
        await app.state.models.get()  # loaded before the first request
        yield
        await app.state.models.closed()

    app = FastAPI(title="MiniLLM", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.limits, app.state.access, app.state.is_stopping = limits, access, False
    app.state.tasks = set[CompletionTask]()  # that are not finished
    app.add_middleware(RequestGuard, allowed_hosts=access.allowed_hosts, cors_origins=access.cors_origins)
    if access.cors_origins:  # outside the guard: a preflight has neither key nor body
        methods, headers = ["GET", "POST"], ["Authorization", "Content-Type"]
        origins = list(access.cors_origins)
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=headers)
    handle_errors(app)
    app.include_router(router)
    app.router.default = PageFiles(directory=PAGE, html=True)  # unlike a mount, only for paths without a route
    return app


class PageFiles(StaticFiles):
    """Files of the web page; other paths are not found, with any method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a file."""
        if scope["method"] != "GET":
            raise HTTPException(404)
        await super().__call__(scope, receive, send)


@router.post("/v1/completions", response_model=Completion, responses={200: {"content": {"text/event-stream": {}}}})
async def complete(body: CompletionRequest, request: Request) -> Completion | Response:
    """Continue a prompt, with `stream` as server-sent events."""
    state = request.app.state
    name, engine = await state.models.get(body.model)
    task = CompletionTask(body, name, engine, state.limits.max_seconds, state.tasks)
    if state.is_stopping:
        raise RefusedError(503, "the server is stopping")
    if _num_texts(state.tasks) + task.num_texts > state.limits.max_texts:
        raise RefusedError(503, "too many texts are being generated: try again soon", code="overloaded")
    task.start()
    if body.stream:
        return CompletionStream(task)
    try:
        return await _unless_disconnected(request, task.result())
    finally:
        task.close()


class CompletionStream(StreamingResponse):
    """Server-sent events of a completion.

    Args:
        task: The running completion, which is closed at the end.
    """

    def __init__(self, task: CompletionTask) -> None:
        super().__init__(_events(task), media_type="text/event-stream", headers=STREAM_HEADERS)
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._task.close()


@router.get("/health")
async def health(request: Request) -> Health:
    """Report the state of the server."""
    state = request.app.state
    return Health(status="stopping" if state.is_stopping else "ok", texts=_num_texts(state.tasks))


@router.get("/v1/models")
async def list_models(request: Request) -> ModelList:
    """List the checkpoints, the default one first."""
    named = request.app.state.models.named()
    return ModelList(data=[Model(id=name, created=one.modified_ns // 10**9) for name, one in named.items()])


@router.get("/v1/models/{model:path}")
async def show_model(model: str, request: Request) -> ModelDetails:
    """Describe a checkpoint."""
    name, engine = await request.app.state.models.get(model)
    tokenizer = engine.tokenizer
    names = ("vocab_size", "context_length", "embed_dim", "num_layers", "num_heads")
    sizes = {size: getattr(engine.decoder.config, size) for size in names}
    return ModelDetails(
        id=name,
        created=engine.modified_ns // 10**9,
        corpus=engine.corpus,
        lowest_val_loss=engine.lowest_val_loss,
        default_prompt=tokenizer.default_prompt,
        tokenizer_class=type(tokenizer).__name__,
        num_parameters=num_parameters(engine.decoder.config),
        **sizes,
    )


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, request: Request) -> Tokenized:
    """Convert a text to token ids, as vLLM does."""
    _, engine = await request.app.state.models.get(body.model)
    tokenizer = engine.tokenizer
    ids: list[int] = tokenizer.start_of_text if body.add_special_tokens else []
    if body.prompt:
        _, ids = encode(tokenizer, body.prompt, "error", add_special_tokens=body.add_special_tokens)
    names = [tokenizer.id_to_token(token) for token in ids] if body.return_token_strs else None
    length = engine.decoder.config.context_length
    return Tokenized(count=len(ids), max_model_len=length, tokens=ids, token_strs=names)


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, request: Request) -> Detokenized:
    """Convert token ids to a text, as vLLM does."""
    _, engine = await request.app.state.models.get(body.model)
    return Detokenized(prompt=decode(engine.tokenizer, body.tokens, "tokens")[0] if body.tokens else "")


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request) -> TokenizerInfo:
    """Describe the tokenizer of the default checkpoint, as vLLM does."""
    _, engine = await request.app.state.models.get()
    tokenizer = engine.tokenizer
    name, start = type(tokenizer).__name__, tokenizer.default_prompt
    if tokenizer.start_of_text:
        start = tokenizer.id_to_token(tokenizer.start_of_text[0])
    length = engine.decoder.config.context_length
    return TokenizerInfo(
        tokenizer_class=name, vocab_size=tokenizer.vocab_size, model_max_length=length, bos_token=start, eos_token=start
    )


@router.get("/runs")
async def list_runs(request: Request) -> RunList:
    """List the training runs below `lightning_logs/`, the newest first."""
    found = group_by_run(request.app.state.models.named())
    return RunList(data=[Run(name=name, checkpoints=checkpoints) for name, checkpoints in found.items()])


@router.get("/runs/{name:path}")
async def show_run(name: str, request: Request) -> RunDetails:
    """Return the loss curves and the samples of a training run."""
    if name not in group_by_run(request.app.state.models.named()):
        raise RefusedError(404, f"there is no run {name[:100]!r}: /runs lists them", "name", "run_not_found")
    return await asyncio.to_thread(runs.run_details, name)


def _num_texts(tasks: set[CompletionTask]) -> int:
    return sum(task.num_texts for task in tasks)


async def _events(task: CompletionTask) -> AsyncIterator[str]:
    """Yield the events of a completion; the last one is [DONE], or an error."""
    try:
        async for part in task.parts():
            yield _event(part)
        if task.includes_usage:
            yield _event(task.usage_part())
    except RefusedError as error:
        yield _event(error_body(error))
    else:
        yield "data: [DONE]\n\n"


def _event(data: BaseModel) -> str:
    return f"data: {escape_line_separators(data.model_dump_json())}\n\n"


async def _unless_disconnected(request: Request, result: Coroutine[Any, Any, Completion]) -> Completion | Response:
    """Await a completion; return an empty response if the client disconnects first."""
    waiting, leaving = asyncio.ensure_future(result), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await waiting if waiting.done() else Response(status_code=499)
    finally:
        waiting.cancel()
        leaving.cancel()
