"""Error responses in the format of OpenAI's API."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from minillm.serve.schema import ErrorAnswer, ErrorDetails

HEADERS = {
    408: {"Connection": "close"},  # what still comes of these is not listened to
    413: {"Connection": "close"},
    503: {"Retry-After": "1"},  # seconds
    504: {"X-Should-Retry": "false"},  # it would take as long again
}


class RefusedError(HTTPException):
    """A request that is not served.

    Args:
        status: The HTTP status.
        message: What is the matter, and what to do.
        param: The field that is wrong.
        code: The same for programs.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(status, message, headers=HEADERS.get(status))
        self.param, self.code = param, code


def error_body(error: HTTPException) -> ErrorAnswer:
    """What says to a client what went wrong."""
    status = error.status_code
    kind = "server_error" if status >= 500 else "invalid_request_error"
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    return ErrorAnswer(error=ErrorDetails(message=str(error.detail), type=kind, param=param, code=code))


def error_response(error: HTTPException) -> JSONResponse:
    """The response to a request that is not served."""
    return JSONResponse(error_body(error).model_dump(), error.status_code, headers=dict(error.headers or {}))


def handle_errors(app: FastAPI) -> None:
    """Have every error of an app answered in one shape."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # without what was sent: that may be anything
        place = [str(part)[:100] for part in first["loc"][1:] if isinstance(part, str)]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such field"
        if first["type"] == "model_attributes_type":  # also if it was sent as something else than JSON
            message = "send a JSON object, with Content-Type: application/json"
        return error_response(
            RefusedError(400, f"{place[0]!r}: {message}", place[0]) if place else RefusedError(400, f"body: {message}")
        )
