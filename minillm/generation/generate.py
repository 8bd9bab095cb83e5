"""Generation: an iterator of token ids, and on top of it an iterator of text."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from minillm.generation.sampling import sample
from minillm.generation.settings import Settings
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer


def generate(
    model: Decoder,
    tokenizer: CharTokenizer,
    prompt: str,
    max_new_tokens: int = Settings.max_new_tokens,
    temperature: float = Settings.temperature,
    top_k: int | None = Settings.top_k,
    top_p: float | None = Settings.top_p,
    seed: int | None = Settings.seed,
    stop: Sequence[str] = Settings.stop,
) -> Iterator[str]:
    """Continue a prompt, piece by piece as the text is made.

    Args:
        model: A trained decoder; its mode is left as it was.
        tokenizer: The tokenizer it was trained with.
        prompt: Text to continue; an empty one starts a new line.
        max_new_tokens: Most tokens to make.
        temperature: Divides the logits; 0 always takes the likeliest token.
        top_k: Choose among this many likeliest tokens.
        top_p: Choose among the likeliest tokens that reach this probability together.
        seed: The same seed gives the same text; None takes a fresh one.
        stop: The text ends before the first of these strings that appears in it.

    Returns:
        Text pieces; joined, they are the continuation without the prompt.

    Raises:
        ValueError: A setting is out of its range, or the prompt has a character that the tokenizer does not know.
    """
    settings = Settings(max_new_tokens, temperature, top_k, top_p, seed, tuple(stop))
    ids = torch.tensor([encode_prompt(tokenizer, prompt)], device=next(model.parameters()).device)
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    newest = generate_ids(model, ids, [generator], settings)
    return stop_before((tokenizer.decode(token.tolist()) for token in newest), settings.stop)


def encode_prompt(tokenizer: CharTokenizer, prompt: str) -> list[int]:
    """The ids of a prompt; those of a newline (or of the first known character) if it is empty.

    Raises:
        ValueError: The prompt has a character that the tokenizer does not know.
    """
    if not prompt:
        prompt = "\n" if "\n" in tokenizer.alphabet else tokenizer.alphabet[0]
    return tokenizer.encode(prompt)


@torch.no_grad()
def generate_ids(
    model: Decoder, ids: Tensor, generators: Sequence[torch.Generator], settings: Settings
) -> Iterator[Tensor]:
    """Continue a batch of texts, one token of each at a time.

    Past the context length the model sees the last `context_length` tokens, at positions counted from the first of
    them; what came before is forgotten.

    Args:
        model: The decoder.
        ids: (B, T) prompts of one length, at least 1.
        generators: B CPU generators, one a text, so that a text does not depend on its neighbours.
        settings: How to choose; the seed and the stop strings are the caller's business.

    Returns:
        `max_new_tokens` times the (B,) newest ids.
    """
    for _ in range(settings.max_new_tokens):
        ids = ids[:, -model.context_length :]
        was_training = model.training
        logits = model.eval()(ids)[:, -1].cpu()
        model.train(was_training)
        uniform = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in generators])
        newest = sample(logits, uniform, settings.temperature, settings.top_k, settings.top_p).to(ids.device)
        ids = torch.cat([ids, newest[:, None]], dim=1)
        yield newest


def stop_before(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Pass text pieces on until a stop string appears, which is left out with all that follows.

    What may turn out to be the beginning of a stop string is held back until that is known: with the stop string
    "ab", the pieces "xa", "c" come out as "x", "ac", and "xa", "b" as "x".

    Args:
        pieces: Text, in order.
        stop: Strings of at least one character.

    Returns:
        The pieces to show.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [position for position in map(held.find, stop) if position >= 0]
        if found:
            held = held[: min(found)]
            break
        ready = len(held) - max((_overlap(held, string) for string in stop), default=0)
        if ready:
            yield held[:ready]
        held = held[ready:]
    if held:
        yield held


def _overlap(text: str, string: str) -> int:
    """The length of the longest beginning of `string`, short of all of it, that `text` ends with."""
    return next(length for length in range(len(string) - 1, -1, -1) if text.endswith(string[:length]))
