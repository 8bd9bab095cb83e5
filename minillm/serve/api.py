"""The app: which request is answered by what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from minillm import __version__
from minillm.checkpoint.run_folder import group_by_run
from minillm.serve import runs
from minillm.serve.completions import Answer, encode
from minillm.serve.errors import RefusedError, error_body, handle_errors
from minillm.serve.guard import Guard
from minillm.serve.limits import Limits
from minillm.serve.models import Models
from minillm.serve.schema import (
    Attention,
    AttentionRequest,
    Completion,
    CompletionRequest,
    ErrorAnswer,
    Health,
    Model,
    ModelDetails,
    ModelList,
    Run,
    RunDetails,
    RunList,
)

PAGE = Path(__file__).parent / "page"
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is wrong."},
    "5XX": {"model": ErrorAnswer, "description": "It cannot be served now."},
}


router = APIRouter(responses=ERRORS)


def create_app(ckpt_path: Path, limits: Limits, api_key: str | None = None) -> FastAPI:
    """The API and the page.

    Args:
        ckpt_path: The checkpoint that is meant where none is named.
        limits: How much to take on.
        api_key: What clients have to show; None: nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.models = Models(ckpt_path, limits)
        await app.state.models.get()  # loaded before the first request comes
        yield
        await app.state.models.closed()

    app = FastAPI(title="MiniLLM", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.limits, app.state.is_stopping = limits, False
    app.state.answers = set[Answer]()  # that are not finished
    app.add_middleware(Guard, api_key=api_key)
    handle_errors(app)
    app.include_router(router)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


@router.post("/v1/completions", response_model=Completion, responses={200: {"content": {"text/event-stream": {}}}})
async def complete(wanted: CompletionRequest, request: Request) -> Completion | Response:
    """Continue a prompt: the whole text, or with `stream` the parts as they are made, as server-sent events."""
    state = request.app.state
    name, engine = await state.models.get(wanted.model)
    answer = Answer(wanted, name, engine, state.limits.max_seconds, state.answers)
    if state.is_stopping:
        raise RefusedError(503, "the server stops")
    if _num_texts(state.answers) + answer.num_texts > state.limits.max_texts:
        raise RefusedError(503, "too many texts are being made: try again soon", code="overloaded")
    answer.begin()
    if wanted.stream:
        return AnswerStream(answer)
    try:
        return await _unless_gone(request, answer.whole())
    finally:
        answer.close()


class AnswerStream(StreamingResponse):
    """The parts of an answer, as they are made.

    Args:
        answer: What is being made.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(_events(answer), media_type="text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()


@router.post("/v1/{path:path}", include_in_schema=False)
async def refuse(path: str) -> None:
    """What clients of other servers may ask for."""
    raise RefusedError(404, f"there is no /v1/{path[:100]}: these models continue texts, by /v1/completions")


@router.get("/health")
async def health(request: Request) -> Health:
    """Whether the service works."""
    state = request.app.state
    return Health(status="stopping" if state.is_stopping else "ok", texts=_num_texts(state.answers))


@router.get("/v1/models")
async def list_models(request: Request) -> ModelList:
    """The checkpoints that can be asked for; the default one first."""
    named = request.app.state.models.named()
    return ModelList(data=[Model(id=name, created=one.modified_ns // 10**9) for name, one in named.items()])


@router.get("/v1/models/{model:path}")
async def show_model(model: str, request: Request) -> ModelDetails:
    """One of them."""
    name, engine = await request.app.state.models.get(model)
    names = ("vocab_size", "context_length", "embed_dim", "num_layers", "num_heads")
    sizes = {size: getattr(engine.decoder.config, size) for size in names}
    return ModelDetails(id=name, created=engine.written // 10**9, **sizes)


@router.post("/attention")
async def show_attention(wanted: AttentionRequest, request: Request) -> Attention:
    """How much each token of a text looks at those before it, in one head of one layer."""
    _, engine = await request.app.state.models.get(wanted.model)
    decoder, tokenizer = engine.decoder, engine.tokenizer
    for name, number in (("layer", decoder.config.num_layers), ("head", decoder.config.num_heads)):
        if getattr(wanted, name) >= number:
            raise RefusedError(400, f"{name} must be below {number}, got {getattr(wanted, name)}", name)
    _, ids = encode(tokenizer, wanted.text, wanted.on_unknown, "text")
    ids = ids[-decoder.config.context_length :]
    _, weights = await asyncio.to_thread(decoder.logits_and_attention, np.array([ids]))
    rows = weights[wanted.layer, 0, wanted.head].astype(float).round(4).tolist()
    return Attention(
        tokens=[tokenizer.id_to_token(token) for token in ids], weights=[row[: t + 1] for t, row in enumerate(rows)]
    )


@router.get("/runs")
async def list_runs(request: Request) -> RunList:
    """The training runs below `lightning_logs/`, the newest first."""
    found = group_by_run(request.app.state.models.named())
    return RunList(data=[Run(name=name, checkpoints=checkpoints) for name, checkpoints in found.items()])


@router.get("/runs/{name:path}")
async def show_run(name: str, request: Request) -> RunDetails:
    """How a run went: its losses, and what the model wrote on the way."""
    if name not in group_by_run(request.app.state.models.named()):
        raise RefusedError(404, f"there is no run {name[:100]!r}: /runs lists them", "name", "run_not_found")
    return await asyncio.to_thread(runs.details, name)


def _num_texts(answers: set[Answer]) -> int:
    return sum(answer.num_texts for answer in answers)


async def _events(answer: Answer) -> AsyncIterator[str]:
    """Server-sent events of the parts of an answer; the last says that it is whole, or what went wrong."""
    try:
        async for part in answer.parts():
            yield f"data: {part.model_dump_json()}\n\n"
        if answer.wants_usage:
            yield f"data: {answer.summary().model_dump_json()}\n\n"
    except RefusedError as error:
        yield f"data: {error_body(error).model_dump_json()}\n\n"
    else:
        yield "data: [DONE]\n\n"


async def _unless_gone(request: Request, answer: Coroutine[Any, Any, Completion]) -> Completion | Response:
    """The answer; nothing, if the client leaves before it is there."""
    making, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await making if making.done() else Response(status_code=499)
    finally:
        making.cancel()
        leaving.cancel()
