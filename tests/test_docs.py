import contextlib
import io
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
CODE_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for name, code in CODE_BLOCK.findall(page.read_text(encoding="utf-8")):
            if name == language:
                yield page, code


COMMANDS = list(
    dict.fromkeys(
        tuple(words)
        for _, block in code_blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        for command in line.split("&&")
        if (words := shlex.split(command, comments=True))
    )
)


def arguments_of(*program: str) -> list[tuple[str, ...]]:
    """The arguments of all commands of a program, with or without `env NAME=VALUE` before it."""
    found: list[tuple[str, ...]] = []
    for words in COMMANDS:
        start = 2 if words[0] == "env" else 0
        if words[start : start + len(program)] == program:
            found.append(words[start + len(program) :])
    return found


@pytest.mark.parametrize("arguments", arguments_of("python", "-m", "minillm"), ids=" ".join)
def test_every_minillm_command_runs(
    arguments: tuple[str, ...], in_smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minillm: Any
):
    shortened = {
        "fit": [
            *("--trainer.max_steps", "2", "--trainer.limit_val_batches", "2", "--data.batch_size", "4"),
            *("--samples.max_new_tokens", "5"),
        ],
        "validate": ["--trainer.limit_val_batches", "2"],
        "test": ["--trainer.limit_test_batches", "2"],
        "predict": ["--max_new_tokens", "5"],
        "serve": ["--port", "0"],
    }
    monkeypatch.setattr("minillm.serve.server.Server.run", lambda server, sockets: None)  # it serves until a signal
    words = [word.replace("configs/", f"{ROOT}/configs/") for word in arguments]
    if words[0] in ("fit", "inspect"):
        monkeypatch.chdir(tmp_path)
        Path("my.txt").write_text("To be, or not to be.\n" * 100)
        Path("names.txt").write_text("Ann\nBob\nCecilia\n" * 100)
        Path("src/package").mkdir(parents=True)
        names = " ".join(f"name{number * 7919 % 1000}" for number in range(4000))
        Path("src/package/module.py").write_text(f"{names}\n" * 2)
        if "--init_from" in words:
            minillm("fit", "--config", ROOT / "configs" / "smoke.yaml")
        if words[-2:] == ["--ckpt_path", "last"]:  # resumes the run that the other flags start
            minillm(*words[:-2], "--trainer.max_steps", 1, "--trainer.limit_val_batches", 2)
    if "--output" in words:
        words[words.index("--output") + 1] = str(tmp_path / "samples.jsonl")
    if ">" in words:
        words = words[: words.index(">")]
    words += [] if "--help" in words else shortened.get(words[0], [])
    if "ddp" in words:  # Lightning starts the program of this process again
        done = subprocess.run([sys.executable, "-m", "minillm", *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("parameters") == 1
        return
    code, _, err = minillm(*words)
    assert (code, "error" in err) == (0, False)


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[1:] and words[1].startswith("benchmarks/")], ids=" ".join
)
def test_every_benchmark_command_has_flags_that_its_script_knows(words: tuple[str, ...]):
    script = ROOT / words[1]
    script = script / "__main__.py" if script.is_dir() else script
    source = script.read_text(encoding="utf-8")
    compile(source, str(script), "exec")
    assert all(f'"{word}"' in source for word in words if word.startswith("--"))


def test_commands_use_only_programs_that_an_installation_provides():
    programs = {words[0] for words in COMMANDS}
    assert programs <= {"python", "tensorboard", "env", "git", "cd", "."}
    assert len(arguments_of("python", "-m", "minillm")) >= 20


@pytest.mark.parametrize(
    "code",
    list(
        dict.fromkeys(
            code for _, code in code_blocks("python") if "import minillm" in code and not code.startswith(">>>")
        )
    ),
)
@pytest.mark.filterwarnings("ignore:.*is experimental")  # of optuna
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")  # of Trainer.predict
def test_every_python_example_runs(code: str, in_smoke_run: Path, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # so that its classes can be imported
    names: dict[str, Any] = vars(module)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    assert printed.getvalue()
    assert "logits" not in names or names["logits"].shape == (1, 6, 65)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


def test_the_layout_in_the_readme_names_every_package():
    (tree,) = re.findall(r"^```text\nminillm/\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    named = {f"minillm/{line.split()[0]}" if line.startswith(" ") else line.split()[0] for line in tree.splitlines()}
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    packages = {f"minillm/{path.parent.name}/" for path in (ROOT / "minillm").glob("*/__init__.py")}
    assert packages == {name for name in named if name.startswith("minillm/")}


def test_the_architecture_page_links_every_module():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path for path in (ROOT / "minillm").glob("*/*.py") if not path.name.startswith("_")]
    assert [path.name for path in modules if f"](../minillm/{path.parent.name}/{path.name})" not in page] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    text = CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_and_anchor_leads_somewhere(page: Path):
    text = CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_docs_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs").iterdir() if f"](docs/{path.name})" not in readme] == []
