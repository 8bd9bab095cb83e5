"""`export`: write a trained model in the format of another program."""

from pathlib import Path

from minillm.commands.command_parser import CommandParser
from minillm.errors import exit_on_wrong_input

FORMATS = {
    "safetensors": "MiniLLM itself, without pickle",
    "hf": "Hugging Face transformers",
    "gguf": "llama.cpp",
    "onnx": "onnxruntime",
}


def run(args: list[str]) -> None:
    """Run `export`.

    Args:
        args: The command line, starting with the subcommand.
    """
    parser = CommandParser("export", "Write a trained model to a new folder, in the format of another program.")
    add = parser.add_argument
    add("--ckpt_path", default="best", help="a checkpoint file, a run folder, or best or last of the newest run")
    formats = "; ".join(f"{name} for {program}" for name, program in FORMATS.items())
    add("--format", choices=FORMATS, required=True, help=formats)
    add("--output", type=Path, required=True, help="folder to create")
    options = parser.parse_args(args[1:])
    with exit_on_wrong_input():
        from minillm.export.export import export  # imported late, to keep --help fast

        export(options.ckpt_path, options.format, options.output)
    print(f"exported to {options.output}")
