"""The rooms of the house, and which way imports run between them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "minillm"
MAY_IMPORT = {
    "model": set(),
    "tokenizer": set(),
    "errors": set(),
    "files": set(),
    "data": {"tokenizer", "files"},
    "generation": {"data", "model", "tokenizer", "errors"},
    "training": {"data", "generation", "model", "tokenizer", "errors", "files"},
    "serve": {"generation", "tokenizer", "errors"},
    "cli": {"errors"},
}
FORBIDDEN = {"Transformer", "TransformerEncoder", "TransformerDecoder", "MultiheadAttention", "TransformerEncoderLayer"}


def imported_rooms(file: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
    return {module.split(".")[1] for module in modules if module.startswith("minillm.")} - {"__version__"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room: str):
    files = list((PACKAGE / room).glob("**/*.py")) or [PACKAGE / f"{room}.py"]
    reached = set().union(*(imported_rooms(file) for file in files))
    assert reached - {room} <= MAY_IMPORT[room]


def test_every_room_is_listed():
    rooms = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert rooms == MAY_IMPORT.keys()


def test_the_model_is_made_of_bricks_and_nothing_larger():
    for file in PACKAGE.glob("**/*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & FORBIDDEN
        assert "transformers" not in file.read_text()
