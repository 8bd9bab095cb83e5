"""Write a trained model in the format of another program, with a model card."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from minillm.checkpoint.exported import exported_files
from minillm.checkpoint.find import find_checkpoint
from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.export.model_card import model_card

Files = dict[str, bytes]


def export(ckpt_path: str | Path, format: str, output: str | Path) -> None:
    """Write a trained model to a new folder, complete or not at all.

    Args:
        ckpt_path: A checkpoint file, a run folder (its best checkpoint), or `best` or `last` of the newest run.
        format: `safetensors` (for MiniLLM itself, without pickle), `hf` (Hugging Face transformers), `gguf` (llama.cpp)
            or `onnx` (onnxruntime).
        output: The folder to create.

    Raises:
        ValueError: There is no such checkpoint or format, the folder exists, the format has no equivalent of a part of
            the model, or a package that it needs is not installed.
        OSError: The folder cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} exists: pass a new folder")
    checkpoint = read_checkpoint(find_checkpoint(ckpt_path))
    try:
        files = FORMATS[format](checkpoint)
    except ModuleNotFoundError as error:
        raise ValueError(f"format {format} needs {error.name}: pip install 'minillm[export]'") from error
    _write_folder(output, {**files, "README.md": model_card(checkpoint, format).encode()})


def _write_folder(output: Path, files: Files) -> None:
    """Write a folder atomically: it appears with all of its files."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        error.filename = str(output)
        raise
    try:
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(output)
    except OSError as error:
        error.filename, error.filename2 = str(output), None  # report the requested path, not the temporary one
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _safetensors_files(checkpoint: Checkpoint) -> Files:
    return exported_files(checkpoint.content)


def _huggingface_files(checkpoint: Checkpoint) -> Files:
    from minillm.export.huggingface import huggingface_files  # imported on use: needs the extra `export`

    return huggingface_files(checkpoint)


def _gguf_files(checkpoint: Checkpoint) -> Files:
    from minillm.export.gguf import gguf_files

    return gguf_files(checkpoint)


def _onnx_files(checkpoint: Checkpoint) -> Files:
    from minillm.export.onnx import onnx_files

    return onnx_files(checkpoint)


FORMATS: dict[str, Callable[[Checkpoint], Files]] = {
    "safetensors": _safetensors_files,
    "hf": _huggingface_files,
    "gguf": _gguf_files,
    "onnx": _onnx_files,
}
