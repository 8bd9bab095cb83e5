"""Files about the repository: workflows, citation, changelog, package metadata."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import minillm
from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load_workflow(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_triggers_jobs_and_steps(path: Path):
    workflow = load_workflow(path)
    assert workflow[True]  # YAML 1.1 reads the key `on` as true
    assert all(job["runs-on"] and job["timeout-minutes"] for job in workflow["jobs"].values())
    assert all(("uses" in step) != ("run" in step) for step in steps_of(workflow))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_reads_the_repository_only_and_pins_its_actions(path: Path):
    workflow = load_workflow(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_that_is_needed_exists(path: Path):
    jobs = load_workflow(path)["jobs"]
    assert {job["needs"] for job in jobs.values() if "needs" in job} <= jobs.keys()


def test_ci_runs_on_every_platform_with_the_oldest_and_a_newer_python():
    (job,) = load_workflow(ROOT / ".github" / "workflows" / "ci.yml")["jobs"].values()
    tested = [(entry["os"].partition("-")[0], entry["python"]) for entry in job["strategy"]["matrix"]["include"]]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert {system for system, _ in tested} == {"ubuntu", "macos", "windows"}
    assert len({python for system, python in tested if system == "ubuntu"} | {oldest}) == 2
    assert job["steps"][-1]["run"] == ".ci/run"
    assert (ROOT / ".ci" / "run").is_file()


def test_publishing_is_off_by_default():
    job = load_workflow(ROOT / ".github" / "workflows" / "release.yml")["jobs"]["publish"]
    assert job["if"] == "vars.PUBLISH == 'true'"


def test_the_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (minillm.__version__, PROJECT["license"])


def test_the_newest_version_in_the_changelog_is_this_one():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (?:unreleased|\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert len(versions) == len(re.findall(r"^## ", changelog, re.MULTILINE))
    assert versions[0] == minillm.__version__
    assert versions == sorted(versions, key=lambda version: [int(part) for part in version.split(".")], reverse=True)


def test_the_classifiers_are_known_to_the_package_index():
    known = pytest.importorskip("trove_classifiers")
    assert set(PROJECT["classifiers"]) <= known.classifiers
