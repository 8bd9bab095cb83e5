"""Segments of a text, which word boundaries separate, and chunks of segments, which are tokenized in parallel."""

from collections.abc import Iterable, Iterator

from minillm.data.corpus import Corpus
from minillm.data.text_files import CHUNK_CHARS, END_OF_DOCUMENT
from minillm.tokenizer.byte_pairs import last_boundary
from minillm.tokenizer.parallel import Chunk


def read_segments(text: Corpus) -> Iterator[str]:
    """Split a text at word boundaries into segments of about CHUNK_CHARS, with an end after each document or file."""
    for source in text.sources:
        rest = ""
        for chunk in source.read(text.text_format):
            if chunk == END_OF_DOCUMENT:
                if rest:
                    yield rest
                    rest = ""
                yield END_OF_DOCUMENT
                continue
            rest += chunk
            if len(rest) >= CHUNK_CHARS:
                boundary = last_boundary(rest)
                yield rest[:boundary]
                rest = rest[boundary:]
        if rest:
            yield rest
        if not text.has_documents:  # byte-pair tokenizers mark the ends of files in any case
            yield END_OF_DOCUMENT


def split_at(segments: Iterable[str], position: int) -> Iterator[str]:
    """Split segments so that none spans a position, in characters from the start of the first one."""
    for segment in segments:
        if 0 < position < len(segment):
            yield segment[:position]
            yield segment[position:]
        else:
            yield segment
        position -= len(segment)


def group_segments(segments: Iterator[str], num_chars: int, ends_document: bool = False) -> Iterator[Chunk]:
    """Group segments into chunks of at least CHUNK_CHARS characters, taking `num_chars` characters in total.

    If the last segment ends a document, the end is taken, too.
    """
    chunk, chunk_chars = Chunk(), 0
    while num_chars > 0:
        segment = next(segments)
        chunk.append(segment)
        chunk_chars, num_chars = chunk_chars + len(segment), num_chars - len(segment)
        if num_chars == 0 and ends_document:
            chunk.append(next(segments))
        if chunk_chars >= CHUNK_CHARS or num_chars == 0:
            yield chunk
            chunk, chunk_chars = Chunk(), 0
