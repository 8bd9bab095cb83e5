import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.checkpoint.run_folder import (
    RunFolder,
    Sample,
    checkpoint_files,
    code_block,
    format_sample,
    group_by_run,
    is_inside_runs,
    parse_samples,
    truncate_samples,
)

TEXTS = st.text(st.sampled_from(" \n#aé\t:")) | st.sampled_from(["## Step 5, val_loss 1.0\n", "    a\n\n  b", "\n\n"])
LINES = st.text(st.sampled_from("ab #\n\r\t\u2028é"))


def test_checkpoint_belongs_to_the_run_folder_above_it(tmp_path: Path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert RunFolder.of(run / "checkpoints" / "best.ckpt") is None  # a folder without config.yaml is not a run folder
    (run / "config.yaml").touch()
    for file in (run / "checkpoints" / "best.ckpt", Path("run/checkpoints/other.ckpt")):
        assert RunFolder.of(file) == RunFolder(run)
    assert RunFolder.of(run / "best.ckpt") is None
    assert RunFolder.of(run / "copies" / "best.ckpt") is None


def test_files_of_a_run_have_fixed_names():
    run = RunFolder(Path("r"))
    files = [run.config, run.config_until(20), run.metrics, run.samples, run.checkpoints, run.best, run.last]
    assert [file.as_posix() for file in files] == [
        "r/config.yaml",
        "r/config_until_step_20.yaml",
        "r/metrics.csv",
        "r/samples.md",
        "r/checkpoints",
        "r/checkpoints/best.ckpt",
        "r/checkpoints/last.ckpt",
    ]


def test_sample_is_formatted_as_a_heading_and_an_indented_block():
    section = "## Step 20, val_loss 1.2346\n\n    O\n    \n      Romeo\n\n"
    assert format_sample(Sample(20, 1.23456, "O\n\n  Romeo")) == section
    assert code_block("O\n\n  Romeo") == "    O\n    \n      Romeo"


@given(samples=st.lists(st.builds(Sample, st.integers(0, 10**9), st.sampled_from([0.0, 1.25, 12.5, 0.0625]), TEXTS)))
def test_parsing_inverts_formatting(samples: list[Sample]):
    assert parse_samples("".join(map(format_sample, samples))) == samples


def test_text_before_the_samples_and_sections_with_invalid_numbers_are_skipped():
    sections = (
        "## Step 1, val_loss 2.5\n\n    a\n\n",
        "## Step 2, val_loss low\n\n    b\n\n",
        "## Step 3, val_loss 1\n\n    c",
    )
    content = "# Mine\n\n" + "".join(sections)
    assert parse_samples(content) == [Sample(1, 2.5, "a"), Sample(3, 1.0, "c")]
    assert parse_samples("") == []


def test_checkpoints_are_listed_by_name_newest_first(tmp_path: Path):
    ages = {"a/version_0/best": 3, "a/version_0/last": 1, "b/c/version_2/best": 2, "a/version_1/best": 2}
    for name, age in ages.items():
        run, stem = name.rsplit("/", 1)
        file = tmp_path / "lightning_logs" / run / "checkpoints" / f"{stem}.ckpt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, ns=(0, 10**18 - age))
    (tmp_path / "lightning_logs" / "a" / "version_0" / "checkpoints" / "notes.txt").touch()
    found = checkpoint_files()
    names = ["a/version_0/last", "b/c/version_2/best", "a/version_1/best", "a/version_0/best"]
    assert list(found) == names
    assert [entry.modified_ns for entry in found.values()] == [10**18 - ages[name] for name in names]
    assert found["b/c/version_2/best"].file == Path("lightning_logs/b/c/version_2/checkpoints/best.ckpt")


def test_checkpoints_of_the_same_age_are_listed_by_descending_name(tmp_path: Path):
    for number in (3, 5, 1, 0, 4, 2):
        file = tmp_path / "lightning_logs" / f"version_{number}" / "checkpoints" / "best.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1, 1))
    assert list(checkpoint_files()) == [f"version_{number}/best" for number in (5, 4, 3, 2, 1, 0)]


def test_checkpoint_removed_during_listing_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for stem in ("best", "last"):
        file = tmp_path / "lightning_logs" / "a" / "checkpoints" / f"{stem}.ckpt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    stat = Path.stat

    def stat_and_remove(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        if path.name == "last.ckpt":
            path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "stat", stat_and_remove)
    assert list(checkpoint_files()) == ["a/best"]


def test_runs_keep_the_order_of_their_checkpoints_whose_names_are_sorted():
    names = ["b/version_0/last", "a/c/version_1/best", "b/version_0/best", "alone"]
    found = group_by_run(names)
    assert list(found) == ["b/version_0", "a/c/version_1"]
    assert found == {"b/version_0": ["b/version_0/best", "b/version_0/last"], "a/c/version_1": ["a/c/version_1/best"]}


def test_symlink_to_a_file_outside_the_runs_folder_is_not_inside_it(tmp_path: Path):
    (tmp_path / "lightning_logs").mkdir()
    inside, outside = tmp_path / "lightning_logs" / "a.txt", tmp_path / "b.txt"
    for file in (inside, outside):
        file.touch()
    link = tmp_path / "lightning_logs" / "link.txt"
    link.symlink_to(outside)
    assert [is_inside_runs(file) for file in (inside, outside, link)] == [True, False, False]
    assert not is_inside_runs(tmp_path / "lightning_logs")
    assert not is_inside_runs(tmp_path / "lightning_logs" / "missing.txt")


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99_999), LINES)))
def test_parsing_inverts_formatting_for_any_lines(values: list[tuple[int, int, str]]):
    samples = [Sample(step, loss / 10_000, text) for step, loss, text in values]
    assert parse_samples("".join(map(format_sample, samples))) == samples


def test_text_that_looks_like_a_heading_is_text():
    sample = Sample(5, 1.5, "## Step 7, val_loss 1.0\n\n    code\n")
    assert parse_samples(format_sample(sample)) == [sample]


def test_incomplete_sections_and_other_headings_do_not_hide_earlier_samples():
    written = format_sample(Sample(5, 1.5, "one"))
    assert parse_samples(f"# Mine\n\n{written}## Notes\n") == [Sample(5, 1.5, "one\n\n## Notes")]
    assert parse_samples(f"{written}## Step 10, val_loss 1.") == [Sample(5, 1.5, "one\n\n## Step 10, val_loss 1.")]
    assert parse_samples(f"{written}## Step 10, val_loss none\n\n    x\n\n") == [Sample(5, 1.5, "one")]


def test_truncation_keeps_earlier_samples_byte_for_byte():
    sections = [format_sample(Sample(step, 1.5, f"text\r\n{step}\n")) for step in (10, 20, 30)]
    content = "".join(["notes of mine\n", *sections])
    assert truncate_samples(content, 20) == "".join(["notes of mine\n", *sections[:2]])
    assert truncate_samples(content, 30) == content
    assert truncate_samples(content, 9) == "notes of mine\n"
