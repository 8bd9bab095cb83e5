"""Dependencies between the subpackages: imports go from higher to lower layers only."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "minillm"
LAYERS = [  # top to bottom; a component imports components of lower layers only
    {"cli"},
    {"commands"},
    {"callbacks", "serve", "export"},
    {"training", "generation"},
    {"checkpoint", "data"},
    {"tokenizer", "model"},
    {"config"},
]
LEAVES = {"cpus", "errors", "files"}  # importable from every layer
TORCH_TRANSFORMERS = {
    "Transformer",
    "TransformerEncoder",
    "TransformerDecoder",
    "MultiheadAttention",
    "TransformerEncoderLayer",
}


def files_of(component: str) -> list[Path]:
    return [*(PACKAGE / component).glob("**/*.py")] or [PACKAGE / f"{component}.py"]


def imported_modules(file: Path) -> set[str]:
    """Find the modules, and names in them, that a file imports by import statements."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
    return modules


def imported_components(file: Path) -> set[str]:
    """Find the components that a file imports: by import statements, or by module or file names in strings."""
    modules = imported_modules(file)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"minillm(\.\w+)+", node.value):
                modules.add(node.value)
            elif re.fullmatch(r"\w+/\w+\.py", node.value) and (PACKAGE / node.value).exists():
                modules.add(f"minillm.{node.value.partition('/')[0]}")
    components = {module.split(".")[1] for module in modules if module.startswith("minillm.")}
    return components & set().union(LEAVES, *LAYERS)


@pytest.mark.parametrize("component", sorted(set().union(*LAYERS)))
def test_components_import_lower_layers_only(component: str):
    layer = next(number for number, components in enumerate(LAYERS) if component in components)
    imported = set().union(*(imported_components(file) for file in files_of(component)))
    assert imported - {component} <= LEAVES.union(*LAYERS[layer + 1 :])


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_no_components(leaf: str):
    assert imported_components(PACKAGE / f"{leaf}.py") == set()


def test_samples_is_the_only_callback_that_imports_generation():
    assert [file.name for file in files_of("callbacks") if "generation" in imported_components(file)] == ["samples.py"]


def test_imports_by_name_are_found():
    assert "commands" in imported_components(PACKAGE / "cli.py")
    assert {"training", "callbacks", "data"} <= imported_components(PACKAGE / "commands" / "flags.py")
    assert "generation" in imported_components(PACKAGE / "__init__.py")


def test_package_root_and_command_line_import_lazily():
    for name in ("__init__.py", "cli.py"):
        statements = ast.parse((PACKAGE / name).read_text()).body  # without functions and TYPE_CHECKING blocks
        modules = [node.module or "" for node in statements if isinstance(node, ast.ImportFrom)]
        assert {module for module in modules if module.startswith("minillm")} <= {"minillm", "minillm.errors"}


def test_every_component_has_a_layer():
    paths = [path for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and not path.name.startswith("_")]
    assert {path.stem for path in paths} - {"configs"} == LEAVES.union(*LAYERS)


def test_transformer_classes_of_other_libraries_are_not_used():
    for file in PACKAGE.glob("**/*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & TORCH_TRANSFORMERS


def test_libraries_of_export_are_imported_by_its_formats_only():
    for file in PACKAGE.glob("**/*.py"):
        names = {module.partition(".")[0] for module in imported_modules(file)}
        assert "transformers" not in names
        if file.parent.name != "export":
            assert not names & {"tokenizers", "gguf", "onnx", "onnxscript"}
