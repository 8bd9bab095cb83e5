"""Request and response schemas of the completions API and of the web page."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_TOKENS = 4096  # that a request may ask for
MAX_PROMPT = 65_536  # characters, or tokens
MAX_CHOICES = 64  # texts that a request may ask for
MAX_LOGPROBS = 20


def _whole(value: Any) -> Any:
    """JSON knows one kind of numbers: 8.0 is 8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_whole)]
TokenIds = Annotated[list[Annotated[Integer, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_PROMPT)]
TokenIdLists = Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]
Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=MAX_CHOICES)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
OnUnknown = Literal["error", "skip", "replace"]


class Strict(BaseModel):
    """What is not known is refused, and nothing is taken for a number that is none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """What a stream says besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="Not looked at.")


def _may_be_null(schema: dict[str, Any]) -> None:
    """In the convention null is the same as not given, for every field."""
    for name, field in schema["properties"].items():
        about = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
        schema["properties"][name] = about | {"anyOf": [field, {"type": "null"}]}


class CompletionRequest(Strict):
    """What to continue, and how."""

    model_config = ConfigDict(json_schema_extra=_may_be_null)

    model: str = Field("", max_length=1024, description="As listed by /v1/models; by default the first one.")
    prompt: Prompt | Prompts | TokenIds | TokenIdLists = Field("", description="An empty text starts a new line.")
    max_tokens: Integer = Field(16, ge=0, le=MAX_TOKENS, description="0 only with echo.")
    temperature: float = Field(1.0, ge=0, le=100, description="0 takes the likeliest token.")
    top_p: float = Field(1.0, gt=0, le=1)
    n: Integer = Field(1, ge=1, le=MAX_CHOICES, description="Texts of each prompt, with seeds that follow each other.")
    seed: Integer | None = Field(None, ge=0, lt=2**62)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] = Field([], description="The text ends before it.")
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=lambda: StreamOptions.model_validate({}))
    logprobs: Integer | None = Field(None, ge=0, le=MAX_LOGPROBS, description="Of so many likeliest tokens, too.")
    echo: bool = Field(False, description="Begin with the prompt.")
    user: str = Field("", max_length=1024, description="Not looked at.")
    best_of: Integer | None = Field(None, ge=1, le=MAX_CHOICES, description="Only what n is.")
    frequency_penalty: float = Field(0, ge=0, le=0, description="Only 0.")
    presence_penalty: float = Field(0, ge=0, le=0, description="Only 0.")
    logit_bias: dict[str, float] = Field({}, max_length=0, description="Only an empty one.")
    suffix: str = Field("", max_length=0, description="Only an empty one.")
    # beyond the convention
    top_k: Integer | None = Field(None, ge=1, lt=2**31, description="Choose among this many likeliest tokens.")
    processed_logprobs: bool = Field(
        False, description="Report what the token is drawn from, after temperature, top_k and top_p."
    )
    on_unknown: OnUnknown = Field("error", description="What to do about characters that the model does not know.")

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Every prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        alone = isinstance(self.prompt[0], int)
        return [self.prompt] if alone else self.prompt  # pyright: ignore[reportReturnType]

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, values: Any) -> Any:
        if isinstance(values, dict):
            given: dict[str, Any] = {**values}
            return {name: value for name, value in given.items() if value is not None or name not in cls.model_fields}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError("best_of must be what n is: the best of more texts is not looked for")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens must be at least 1, unless echo asks for the prompt")
        if self.n * len(self.prompts) > MAX_CHOICES:
            raise ValueError(f"n times prompts must be at most {MAX_CHOICES}, got {self.n * len(self.prompts)}")
        return self


class Logprobs(BaseModel):
    """How likely each token was, in natural logarithms; a token that nothing comes before has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Choice(BaseModel):
    """A text, or the next part of it."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None
    seed: int = Field(description="With it and the same settings, the text comes again.")


class Usage(BaseModel):
    """What was read and made."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The answer, or a part of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Model(BaseModel):
    """A checkpoint."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "minillm"


class ModelDetails(Model):
    """A checkpoint, and the sizes of what is in it."""

    vocab_size: int
    context_length: int
    embed_dim: int
    num_layers: int
    num_heads: int


class ModelList(BaseModel):
    """The checkpoints."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorDetails(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """An answer that is none."""

    error: ErrorDetails


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "stopping"]
    texts: int = Field(description="That were asked for and are not all there yet.")


class AttentionRequest(Strict):
    """Whose attention to look at."""

    model: str = Field("", max_length=1024)
    text: str = Field(min_length=1, max_length=MAX_PROMPT, description="Only its end, as long as the context, is seen.")
    layer: Integer = Field(0, ge=0, lt=2**31)
    head: Integer = Field(0, ge=0, lt=2**31)
    on_unknown: OnUnknown = "error"


class Attention(BaseModel):
    """How much each token looks at itself and at those before it."""

    tokens: list[str]
    weights: list[list[float]] = Field(description="Row t holds t + 1 numbers that sum to 1.")


class Run(BaseModel):
    """A training run."""

    name: str
    checkpoints: list[str]


class RunList(BaseModel):
    """The training runs, the newest first."""

    data: list[Run]


class Measured(BaseModel):
    """Values of a metric by steps."""

    steps: list[int]
    values: list[float]


class Sample(BaseModel):
    """What the model wrote at a step."""

    title: str
    text: str


class RunDetails(BaseModel):
    """How a run went."""

    name: str
    train_loss: Measured
    val_loss: Measured
    lowest_val_loss: float | None
    samples: list[Sample]
