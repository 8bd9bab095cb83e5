"""Schemas of requests, with messages that say what a wrong value should be."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from minillm.generation.memorization import MIN_MATCH_BYTES

MAX_TOKENS = 4096  # per text
MAX_PROMPT_LENGTH = 65_536  # characters or tokens
MAX_CHOICES = 64  # texts per request
MAX_LOGPROBS = 128  # as many as a vocabulary of characters usually has
MAX_SEARCHED = 8192  # characters that are looked for in the training text
MAX_SHOWN = 128  # tokens of a text whose computation is shown
MAX_REPORTED = 2 * MAX_CHOICES * MAX_TOKENS  # tokens of a response, alternatives of `logprobs` included
MAX_STOPS, MAX_STOP_LENGTH = 16, 256
MAX_NAME_LENGTH = 1024
MAX_TOKEN_ID = 2**31 - 1
ADD_SPECIAL_TOKENS = "Begin with the end-of-text token, if the model was trained on documents."

TEXT_SCHEMA = {"type": "string", "maxLength": MAX_PROMPT_LENGTH}
IDS_SCHEMA = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
    "minItems": 1,
    "maxItems": MAX_PROMPT_LENGTH,
}
PROMPT_SCHEMA = {
    "anyOf": [
        TEXT_SCHEMA,
        IDS_SCHEMA,
        *(
            {"type": "array", "items": kind, "minItems": 1, "maxItems": MAX_CHOICES}
            for kind in (TEXT_SCHEMA, IDS_SCHEMA)
        ),
    ]
}
STOP_ITEM_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_LENGTH}
STOP_SCHEMA = {"anyOf": [STOP_ITEM_SCHEMA, {"type": "array", "items": STOP_ITEM_SCHEMA, "maxItems": MAX_STOPS}]}


def _to_int(value: Any) -> Any:
    """Convert 8.0 to 8: JSON has one kind of numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _to_count(value: Any) -> Any:
    """Convert true and false to 1 and None."""
    return (1 if value else None) if isinstance(value, bool) else _to_int(value)


def _to_seed(value: Any) -> Any:
    """Convert -1, which other servers use for a random seed, to None."""
    return None if _to_int(value) == -1 else _to_int(value)


def _to_top_k(value: Any) -> Any:
    """Convert 0 and -1, which other servers use for no limit, to None."""
    number = _to_int(value)
    return None if type(number) is int and number in (0, -1) else number


def _to_prompts(value: Any) -> list[str | list[int]]:
    """Convert a text, a list of token ids, or a list of either, to a list of prompts."""
    if isinstance(value, str):
        return [_to_prompt(value)]
    if not isinstance(value, list) or not value:
        raise ValueError("send a text, token ids, or a list of either")
    values = cast(list[Any], value)
    if all(type(_to_int(item)) is int for item in values):
        values = [values]
    if len(values) > MAX_CHOICES:
        raise ValueError(f"at most {MAX_CHOICES} prompts, got {len(values)}")
    return [_to_prompt(item) for item in values]


def _to_prompt(value: Any) -> str | list[int]:
    if isinstance(value, str | list) and len(cast(list[Any], value)) > MAX_PROMPT_LENGTH:
        unit = "characters" if isinstance(value, str) else "tokens"
        raise ValueError(f"at most {MAX_PROMPT_LENGTH:,} {unit}")
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("not valid Unicode: it has half of a surrogate pair")
        return value
    ids = [_to_int(item) for item in cast(list[Any], value)] if isinstance(value, list) else []
    if not ids or not all(type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in ids):
        raise ValueError("send a text, token ids from 0, or a list of either")
    return ids


def _to_stops(value: Any) -> list[str]:
    values = cast(list[Any], value if isinstance(value, list) else [value])
    if len(values) > MAX_STOPS:
        raise ValueError(f"at most {MAX_STOPS} strings, got {len(values)}")
    for stop in values:
        if not isinstance(stop, str):
            raise ValueError("send a string, or a list of strings")
        if not 0 < len(stop) <= MAX_STOP_LENGTH:
            raise ValueError("an empty string" if not stop else f"at most {MAX_STOP_LENGTH} characters")
    return values


INT = BeforeValidator(_to_int)
Prompts = Annotated[list[str | list[int]], BeforeValidator(_to_prompts), WithJsonSchema(PROMPT_SCHEMA)]
Stops = Annotated[list[str], BeforeValidator(_to_stops), WithJsonSchema(STOP_SCHEMA)]
Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS), INT]
Choices = Annotated[int, Field(ge=1, le=MAX_CHOICES), INT]
Name = Annotated[str, Field(max_length=MAX_NAME_LENGTH)]
OnUnknown = Literal["error", "skip", "replace"]


def _allow_null(schema: dict[str, Any]) -> None:
    """Add null, which means the default, to the types of every field that has a default."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", []):
            about = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
            schema["properties"][name] = about | {"anyOf": [field, {"type": "null"}]}


class Request(BaseModel):
    """Request body without unknown fields, and without conversions such as of `"5"` to 5."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=_allow_null)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, values: Any) -> Any:
        """Refuse the first unknown field: a list of all could be long. A null is the default of its field."""
        if not isinstance(values, dict):
            return values
        given = cast(dict[Any, Any], values)
        for name in given:
            if name not in cls.model_fields:
                raise ValueError(f"unknown field {str(name)[:100]!r}")
        return {name: value for name, value in given.items() if value is not None}


class StreamOptions(Request):
    """Content of a stream besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="Accepted and ignored.")


class CompletionRequest(Request):
    """Request of a completion."""

    model: Name = Field("", description="A name that /v1/models lists; by default the first.")
    prompt: Prompts = Field(
        [""], description="A text, token ids, or a list of either. An empty text starts a new line."
    )
    max_tokens: Tokens = Field(16, description="0 only with echo.")
    max_completion_tokens: Tokens | None = Field(None, description="The same as max_tokens.")
    temperature: float = Field(1.0, ge=0, le=100, description="0 takes the most probable token.")
    top_p: float = Field(1.0, gt=0, le=1)
    n: Choices = Field(1, description="Number of texts per prompt, with consecutive seeds.")
    seed: Annotated[
        int | None,
        Field(ge=0, lt=2**62),
        BeforeValidator(_to_seed),
        WithJsonSchema({"type": "integer", "minimum": -1, "maximum": 2**62 - 1}),
    ] = Field(None, description="By default, or -1, a random one, which the response reports.")
    stop: Stops = Field([], description="The text ends before the first of these strings.")
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=lambda: StreamOptions.model_validate({}))
    logprobs: Annotated[
        int | None,
        Field(ge=0, le=MAX_LOGPROBS),
        BeforeValidator(_to_count),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS}, {"type": "boolean"}]}),
    ] = Field(None, description="Number of most probable tokens to report besides each token; true is 1.")
    echo: bool = Field(False, description="Begin with the prompt.")
    best_of: Choices | None = Field(None, description="Must equal n.")
    frequency_penalty: float = Field(0, ge=0, le=0, description="Must be 0.")
    presence_penalty: float = Field(0, ge=0, le=0, description="Must be 0.")
    logit_bias: dict[str, float] = Field({}, max_length=0, description="Must be empty.")
    suffix: str = Field("", max_length=0, description="Must be empty.")
    user: Name = Field("", description="Accepted and ignored.")
    # extensions that vLLM has, too
    top_k: Annotated[
        int | None,
        Field(ge=1, lt=2**31),
        BeforeValidator(_to_top_k),
        WithJsonSchema({"type": "integer", "minimum": -1, "maximum": 2**31 - 1}),
    ] = Field(None, description="Sample among this many most probable tokens; 0 or -1: among all.")
    repetition_penalty: float = Field(1, ge=1, le=1, description="Must be 1.")
    min_p: float = Field(0, ge=0, le=0, description="Must be 0.")
    min_tokens: Annotated[int, Field(ge=0, le=0), INT] = Field(0, description="Must be 0.")
    add_special_tokens: bool = Field(True, description=ADD_SPECIAL_TOKENS)
    skip_special_tokens: bool = Field(True, description="Accepted and ignored: they are never part of a text.")
    ignore_eos: bool = Field(False, description="Accepted and ignored: a text ends with its document.")
    # extensions of this server
    processed_logprobs: bool = Field(
        False, description="Report the distribution that the token was drawn from, after temperature, top_k and top_p."
    )
    on_unknown: OnUnknown = Field("error", description="Treatment of characters that are not in the vocabulary.")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.max_completion_tokens is not None:
            if "max_tokens" in self.model_fields_set and self.max_tokens != self.max_completion_tokens:
                raise ValueError("max_tokens and max_completion_tokens are the same setting: send one of them")
            self.max_tokens = self.max_completion_tokens
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError("best_of must equal n: no text is discarded")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens must be at least 1, unless echo asks for the prompt")
        num_texts = self.n * len(self.prompt)
        if num_texts > MAX_CHOICES:
            raise ValueError(f"n times prompts must be at most {MAX_CHOICES}, got {num_texts}")
        num_echoed = sum(map(len, self.prompt)) * self.n if self.echo else 0
        num_reported = (num_texts * self.max_tokens + num_echoed) * (1 + (self.logprobs or 0))
        if num_reported > MAX_REPORTED:
            raise ValueError(
                f"the response could have {num_reported:,} tokens, alternatives included, but the maximum is"
                f" {MAX_REPORTED:,}: ask for fewer texts, tokens or logprobs"
            )
        return self


class TokenizeRequest(Request):
    """Text to convert to token ids."""

    model: Name = ""
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_LENGTH)]
    add_special_tokens: bool = Field(True, description=ADD_SPECIAL_TOKENS)
    return_token_strs: bool = False


class DetokenizeRequest(Request):
    """Token ids to convert to a text."""

    model: Name = ""
    tokens: Annotated[list[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID), INT]], Field(max_length=MAX_PROMPT_LENGTH)]


class AttentionRequest(Request):
    """Text and head whose attention weights to compute."""

    model: Name = ""
    text: str = Field(
        min_length=1, max_length=MAX_PROMPT_LENGTH, description="The last context_length tokens are used."
    )
    layer: Annotated[int, Field(ge=0, lt=2**31), INT] = 0
    head: Annotated[int, Field(ge=0, lt=2**31), INT] = 0
    on_unknown: OnUnknown = "error"


class InsideRequest(Request):
    """Text whose computation to show."""

    model: Name = ""
    text: str = Field(
        min_length=1,
        max_length=MAX_PROMPT_LENGTH,
        description=f"The last {MAX_SHOWN} tokens are used, or the last context_length.",
    )
    on_unknown: OnUnknown = "error"


class VerbatimRequest(Request):
    """Text to look for in the training text."""

    model: Name = ""
    text: Annotated[str, Field(max_length=MAX_SEARCHED)]
    min_length: Annotated[int, Field(ge=MIN_MATCH_BYTES, le=MAX_SEARCHED), INT] = Field(
        20, description="Minimum length of a match, in characters."
    )
