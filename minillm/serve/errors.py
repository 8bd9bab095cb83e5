"""Error responses in the format of OpenAI's API."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from minillm.serve.responses import ErrorDetails, ErrorResponse

HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},  # the rest of the request is not read
    413: {"Connection": "close"},
    503: {"Retry-After": "1"},  # seconds
    504: {"X-Should-Retry": "false"},  # it would take as long again
}


class RefusedError(HTTPException):
    """A request that is not served.

    Args:
        status: HTTP status.
        message: What is wrong, and what to do.
        param: Name of the wrong field.
        code: Machine-readable error code.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(status, message, headers=HEADERS.get(status))
        self.param, self.code = param, code


def error_body(error: HTTPException) -> ErrorResponse:
    """Return the body of an error response."""
    status = error.status_code
    kind = "server_error" if status >= 500 else "invalid_request_error"
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    return ErrorResponse(error=ErrorDetails(message=str(error.detail), type=kind, param=param, code=code))


def error_response(error: HTTPException) -> JSONResponse:
    """Return an error response."""
    return JSONResponse(error_body(error).model_dump(), error.status_code, headers=dict(error.headers or {}))


def handle_errors(app: FastAPI) -> None:
    """Answer every error of an application with an error response."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path[:100]
        if error.status_code == 404 and error.detail == "Not Found":
            hint = "; these models continue texts: POST /v1/completions" if path.startswith("/v1/") else ""
            error = RefusedError(404, f"there is no {path}{hint}")
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(_describe(error.errors()[0]))


def _describe(first: dict[str, Any]) -> RefusedError:
    """Describe the first validation error, without the value, which may be large."""
    path = [str(part)[:100] for part in first["loc"][1:] if isinstance(part, str)]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_attributes_type":
        message = "send a JSON object"
    return RefusedError(400, f"{path[0]!r}: {message}", path[0]) if path else RefusedError(400, f"body: {message}")
