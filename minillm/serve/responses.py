"""Schemas of responses."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Logprobs(BaseModel):
    """Natural logarithms of the probabilities of tokens; None for a token without context."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Choice(BaseModel):
    """A text, or the next part of one."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None
    seed: int = Field(description="With the same settings it generates the same text.")


class Usage(BaseModel):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A completion, or an event of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Tokenized(BaseModel):
    """Token ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(BaseModel):
    """Text of token ids."""

    prompt: str


class TokenizerInfo(BaseModel):
    """Kind and size of a tokenizer, and the text that an empty prompt stands for, which marks boundaries of texts."""

    tokenizer_class: str
    vocab_size: int
    model_max_length: int
    bos_token: str
    eos_token: str
    pad_token: None = None
    chat_template: None = None


class Model(BaseModel):
    """A checkpoint."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "minillm"


class ModelDetails(Model):
    """A checkpoint with the sizes of its model."""

    corpus: str | None = Field(description="Name of the training text, without its folder.")
    lowest_val_loss: float | None = Field(description="Of the run up to this checkpoint, in nats per token.")
    default_prompt: str = Field(description="What an empty prompt stands for; empty if it begins a document.")
    tokenizer_class: str
    num_parameters: int
    vocab_size: int
    context_length: int
    embed_dim: int
    num_layers: int
    num_heads: int


class ModelList(BaseModel):
    """All checkpoints."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorDetails(BaseModel):
    """Description of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """Error response."""

    error: ErrorDetails


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "stopping"]
    texts: int = Field(description="Number of texts that are being generated or wait for it.")


class Attention(BaseModel):
    """Attention weights of a head."""

    tokens: list[str]
    weights: list[list[float]] = Field(description="Row t has t + 1 numbers that sum to 1.")


class AttentionMaps(BaseModel):
    """Attention weights of all heads."""

    tokens: list[str]
    maps: list[list[str]] = Field(
        description="By layer and head: T rows of T bytes in base64, the weights of the T tokens times 255."
    )


class LensToken(BaseModel):
    """A token and its probability."""

    token: str
    probability: float


class LogitLens(BaseModel):
    """Predictions from the residual stream after each block."""

    tokens: list[str]
    layers: list[list[list[LensToken]]] = Field(
        description="By block and position: the most probable next tokens, the last block's are the model's."
    )


class VerbatimMatch(BaseModel):
    """Part of a text that occurs word for word in the training text."""

    start: int = Field(description="Its first character in the text.")
    length: int = Field(description="In characters.")
    line: int = Field(description="Line of the training text in which it begins, from 1.")


class VerbatimMatches(BaseModel):
    """Matches that do not overlap: the longest one, the longest ones before and after it, and so on."""

    corpus: str | None = Field(description="Name of the training text, without its folder.")
    matches: list[VerbatimMatch]


class Run(BaseModel):
    """A training run."""

    name: str
    checkpoints: list[str]


class RunList(BaseModel):
    """All training runs, the newest first."""

    data: list[Run]


class Curve(BaseModel):
    """Values of a metric by step."""

    steps: list[int]
    values: list[float]


class Sample(BaseModel):
    """Text that was generated at a validation."""

    title: str
    text: str


class RunDetails(BaseModel):
    """Losses and samples of a training run."""

    name: str
    train_loss: Curve
    val_loss: Curve
    lowest_val_loss: float | None
    samples: list[Sample]
