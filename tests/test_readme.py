import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(command, comments=True)
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    for command in line.split("&&")
    if shlex.split(command, comments=True)
]
OURS = [words[3:] for words in COMMANDS if words[:3] == ["python", "-m", "minillm"]]


@pytest.mark.parametrize("arguments", OURS, ids=" ".join)
def test_every_command_of_ours_runs(
    arguments: list[str], in_smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minillm: Any
):
    shortened = {
        "fit": ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "2", "--data.batch_size", "4"],
        "validate": ["--trainer.limit_val_batches", "2"],
        "test": ["--trainer.limit_test_batches", "2"],
        "predict": ["--max_new_tokens", "5"],
        "serve": ["--port", "0"],
    }
    monkeypatch.setattr("minillm.serve.server.Server.run", lambda server, sockets: None)  # it would never end
    arguments = [word.replace("configs/", f"{ROOT}/configs/") for word in arguments]
    if arguments[0] == "fit":
        monkeypatch.chdir(tmp_path)
        Path("my.txt").write_text("To be, or not to be.\n" * 100)
        Path("src/package").mkdir(parents=True)
        words = " ".join(f"name{number * 7919 % 1000}" for number in range(4000))
        Path("src/package/module.py").write_text(f"{words}\n" * 2)
        if "--init_from" in arguments:
            minillm("fit", "--config", ROOT / "configs" / "smoke.yaml")
        if arguments[-2:] == ["--ckpt_path", "last"]:  # goes on from what came before it
            minillm(*arguments[:-2], "--trainer.max_steps", 1, "--trainer.limit_val_batches", 2)
    if "--output" in arguments:
        arguments[arguments.index("--output") + 1] = str(tmp_path / "samples.jsonl")
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    code, _, err = minillm(*arguments, *shortened.get(arguments[0], []))
    assert (code, "error" in err) == (0, False)


def test_the_commands_name_only_programs_that_an_installation_brings():
    assert {words[0] for words in COMMANDS} <= {"python", "tensorboard", ".", "git", "cd"}
    assert len(OURS) >= 5


def test_every_file_that_the_tree_names_exists_and_every_module_is_named():
    (tree,) = re.findall(r"^```text\nminillm/\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    paths, folders = set(), ["minillm"]
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = [*folders[:depth], name.rstrip("/")]
        paths.add("/".join(folders))
    assert all((ROOT / path).exists() for path in paths)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "minillm").rglob("*.py") if path.name[0] != "_"}
    assert modules <= paths


def test_links_to_files_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert all((ROOT / link).exists() for link in links)
