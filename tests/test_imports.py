"""The rooms of the package, and which way imports run between them."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "minillm"
FLOORS = [  # a room imports rooms of lower floors only
    {"cli"},
    {"commands"},
    {"callbacks", "serve"},
    {"training", "generation"},
    {"checkpoint", "data"},
    {"tokenizer", "model"},
    {"config"},
]
LEAVES = {"errors", "files"}  # which any room may import
FORBIDDEN = {"Transformer", "TransformerEncoder", "TransformerDecoder", "MultiheadAttention", "TransformerEncoderLayer"}


def files_of(room: str) -> list[Path]:
    return [*(PACKAGE / room).glob("**/*.py")] or [PACKAGE / f"{room}.py"]


def imported_rooms(file: Path) -> set[str]:
    """The rooms that a file imports: by an import statement, by a module's name in a string, or by a file's."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"minillm(\.\w+)+", node.value):
                modules.add(node.value)
            elif re.fullmatch(r"\w+/\w+\.py", node.value) and (PACKAGE / node.value).exists():
                modules.add(f"minillm.{node.value.partition('/')[0]}")
    found = {module.split(".")[1] for module in modules if module.startswith("minillm.")}
    return found & set().union(LEAVES, *FLOORS)


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS)))
def test_imports_run_one_way(room: str):
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    reached = set().union(*(imported_rooms(file) for file in files_of(room)))
    assert reached - {room} <= LEAVES.union(*FLOORS[floor + 1 :])


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_nothing(leaf: str):
    assert imported_rooms(PACKAGE / f"{leaf}.py") == set()


def test_of_the_callbacks_only_the_samples_generate():
    assert [file.name for file in files_of("callbacks") if "generation" in imported_rooms(file)] == ["samples.py"]


def test_imports_by_name_are_seen():
    assert "commands" in imported_rooms(PACKAGE / "cli.py")
    assert {"training", "callbacks", "data"} <= imported_rooms(PACKAGE / "commands" / "flags.py")
    assert "generation" in imported_rooms(PACKAGE / "__init__.py")


def test_the_root_and_the_command_line_import_lazily():
    for name in ("__init__.py", "cli.py"):
        statements = ast.parse((PACKAGE / name).read_text()).body  # not what is in functions or behind TYPE_CHECKING
        found = [node.module or "" for node in statements if isinstance(node, ast.ImportFrom)]
        assert {module for module in found if module.startswith("minillm")} <= {"minillm", "minillm.errors"}


def test_every_room_has_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and not path.name.startswith("_")}
    assert rooms - {"configs"} == LEAVES.union(*FLOORS)


def test_the_model_is_made_of_bricks_and_nothing_larger():
    for file in PACKAGE.glob("**/*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & FORBIDDEN
        assert "transformers" not in file.read_text()
