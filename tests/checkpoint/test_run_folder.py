from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minillm.checkpoint.run_folder import RunFolder, Sample, format_sample, parse_samples, samples_until

TEXTS = st.text(st.sampled_from("ab #\n\r\t\u2028é"))


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99_999), TEXTS)))
def test_samples_are_read_as_they_were_written(values: list[tuple[int, int, str]]):
    samples = [Sample(step, loss / 10_000, text) for step, loss, text in values]
    assert parse_samples("".join(map(format_sample, samples))) == samples


def test_a_text_that_looks_like_a_heading_is_a_text():
    sample = Sample(5, 1.5, "## Step 7, val_loss 1.0\n\n    code\n")
    assert parse_samples(format_sample(sample)) == [sample]


def test_half_written_sections_and_other_headings_do_no_harm():
    written = format_sample(Sample(5, 1.5, "one"))
    assert parse_samples(f"# Mine\n\n{written}## Notes\n") == [Sample(5, 1.5, "one\n\n## Notes")]
    assert parse_samples(f"{written}## Step 10, val_loss 1.") == [Sample(5, 1.5, "one\n\n## Step 10, val_loss 1.")]
    assert parse_samples(f"{written}## Step 10, val_loss none\n\n    x\n\n") == [Sample(5, 1.5, "one")]


def test_samples_up_to_a_step_stay_byte_for_byte():
    sections = [format_sample(Sample(step, 1.5, f"text\r\n{step}\n")) for step in (10, 20, 30)]
    content = "".join(["notes of mine\n", *sections])
    assert samples_until(20, content) == "".join(["notes of mine\n", *sections[:2]])
    assert samples_until(30, content) == content
    assert samples_until(9, content) == "notes of mine\n"


def test_a_checkpoint_belongs_to_a_run_if_it_lies_in_its_folder(tmp_path: Path):
    run = RunFolder(tmp_path / "version_3")
    run.checkpoints.mkdir(parents=True)
    assert RunFolder.of(run.last) is None  # no configuration
    run.config.touch()
    assert RunFolder.of(run.last) == RunFolder.of(run.best) == run
    assert RunFolder.of(run.path / "last.ckpt") is None
    assert RunFolder.of(tmp_path / "checkpoints" / "last.ckpt") is None
