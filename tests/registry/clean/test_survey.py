"""Whatever is freed, and whenever that is killed: what a version or a branch needs is all there."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llm.errors import ConfigError, TrackingError
from llm.files import write_json
from llm.git import blobs, tree
from llm.registry.cache import Cache, md5s_in
from llm.registry.clean.plan import YOUNG, size_of
from llm.registry.clean.survey import Project, free, survey, undisturbed
from llm.registry.needs import expanded
from llm.registry.versions import LOCK_FILE, Registry
from llm.worktree import cache_folder, remove_worktree, share_cache, using_cache
from tests.registry.project import (
    checkout,
    commit,
    git,
    made,
    register,
    repro,
    set_params,
    start_repro,
)
from tests.waiting import PATIENCE_S, wait_for

Made = dict[str, str]


def cleaned(project: Path, **changes: object) -> Project:
    values = {
        "root": project,
        "older_than_days": 0.0,
        "shared_cache": False,
        "others": (),
        "history": False,
        "register": Path("data/register"),
    }
    return Project(**values | changes)  # type: ignore[arg-type]


def clean_up(project: Path, registry: Registry, **changes: object) -> int:
    """`llm gc --free --yes --older-than 0`; how many things went."""
    gone: list[str] = []
    wanted = cleaned(project, **changes)
    with undisturbed(wanted, wait=False):
        free(wanted, registry, survey(wanted, registry), gone.append)
    return len(gone)


class Story:
    """What a person does with a project, at random; and what each state of it held."""

    def __init__(self, project: Path, registry: Registry, seed: int) -> None:
        self.project, self.registry = project, registry
        self.random = random.Random(seed)
        self.refs: dict[str, Made] = {}
        self.versions: dict[str, Made] = {}
        self.forgotten: list[Made] = []

    def run(self) -> Made:
        """Other params, and a run of them."""
        set_params(
            self.project, documents=self.random.randint(1, 3), seed=self.random.randint(1, 4)
        )
        repro(self.project)
        return made(self.project)

    def branch(self) -> None:
        name = f"branch-{len(self.refs)}"
        git(self.project, "checkout", "--quiet", "-b", name)
        state = self.run()
        commit(self.project, name)
        self.refs[name] = state

    def tag(self) -> None:
        """A commit that only a tag leads to."""
        name = f"tag-{len(self.refs)}"
        git(self.project, "checkout", "--quiet", "--detach")
        state = self.run()
        commit(self.project, name)
        git(self.project, "tag", name)
        self.refs[name] = state

    def stash(self) -> None:
        git(self.project, "checkout", "--quiet", "--force", "main")
        state = self.run()
        git(self.project, "add", "--all")
        git(self.project, "stash", "push", "--quiet")
        self.refs[git(self.project, "rev-parse", "stash@{0}")] = state

    def version(self) -> None:
        """Of a run that is committed nowhere."""
        state = self.run()
        version = register(self.project, self.registry, older=self.random.random() < 0.3)
        self.versions[version.number] = state

    def forget(self) -> None:
        """A run whose results nobody keeps."""
        self.forgotten.append(self.run())
        git(self.project, "checkout", "--quiet", "--force", "main")

    def check(self, folder: Path) -> None:
        """Every branch, tag, stash and version still gives its bytes, in a new checkout."""
        git(self.project, "worktree", "prune")
        git(self.project, "worktree", "add", "--quiet", "--force", "--detach", str(folder), "main")
        share_cache(self.project, folder)
        for ref, state in self.refs.items():
            git(folder, "checkout", "--quiet", "--force", "--detach", ref)
            checkout(folder)
            assert made(folder) == state, ref
        for number, state in self.versions.items():
            version = self.registry.find(number, "llm")
            if LOCK_FILE in self.registry.list_files(version):
                shutil.copy(self.registry.files(version, LOCK_FILE), folder / "dvc.lock")
                checkout(folder)
                assert made(folder) == state, number
            else:  # it has but the md5s
                cache = Cache(cache_folder(folder))
                outs = {md5 for key, md5 in version.tags.items() if key.startswith("out/")}
                assert all(map(cache.has, expanded(cache, outs))), number
        remove_worktree(self.project, folder)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_version_and_ref_can_still_be_checked_out_with_the_same_bytes(
    project: Path, registered: Registry, tmp_path: Path, seed: int
) -> None:
    story = Story(project, registered, seed)
    steps: list[Callable[[], None]] = [story.branch, story.tag, story.version, story.stash]
    steps += [story.forget, story.forget]
    story.random.shuffle(steps)
    for step in steps:
        step()
    cache = Cache(cache_folder(project))
    before = set(dict(cache.objects()))
    clean_up(project, registered)
    after = set(dict(cache.objects()))
    story.check(tmp_path / "look")
    needed = _named_anywhere(project, registered, cache)
    assert after == before & needed, "what nobody needs is all gone"
    assert clean_up(project, registered) == 0


def test_killed_after_any_step_nothing_needed_is_lost_and_the_next_one_ends_it(
    project: Path, registered: Registry, tmp_path: Path
) -> None:
    story = Story(project, registered, seed=3)
    for step in (story.branch, story.version, story.forget, story.forget):
        step()
    cache = Cache(cache_folder(project))
    needed = _named_anywhere(project, registered, cache) & set(dict(cache.objects()))
    kills = 0
    while survey(cleaned(project), registered).freeable:
        steps = (1, 2, 7)[kills % 3]
        if not (child := os.fork()):
            _free_and_die(project, registered, steps)
        os.waitpid(child, 0)
        kills += 1
        assert needed <= set(dict(cache.objects()))
    assert kills > 3
    story.check(tmp_path / "look")


def _free_and_die(project: Path, registry: Registry, steps: int) -> None:
    """In a child process: free until `steps` things are gone, then end without a goodbye."""
    gone: list[str] = []

    def count(what: str) -> None:
        gone.append(what)
        if len(gone) == steps:
            os._exit(9)

    with undisturbed(cleaned(project), wait=False):
        free(cleaned(project), registry, survey(cleaned(project), registry), count)
    os._exit(0)


def test_nothing_is_freed_beside_a_run_that_holds_the_cache(
    project: Path, registered: Registry
) -> None:
    repro(project)
    with (
        using_cache(project),
        pytest.raises(ConfigError, match="a run is using the DVC cache, so nothing is freed"),
    ):
        clean_up(project, registered)
    with undisturbed(cleaned(project), wait=False):
        pass


def test_nothing_is_freed_beside_a_plain_dvc_repro_which_goes_on(
    project: Path, registered: Registry
) -> None:
    running = start_repro(project, SLEEP="sft")
    try:
        wait_for((project / ".llm" / "sleeps").exists)
        with pytest.raises(
            ConfigError, match=r"dvc repro.* uses the DVC cache, so nothing is freed"
        ):
            clean_up(project, registered)
        assert running.poll() is None
    finally:
        running.terminate()
        running.wait(timeout=PATIENCE_S)


def test_a_registry_that_does_not_answer_or_is_another_frees_nothing(
    project: Path, registered: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="does not answer"):
        survey(cleaned(project), Registry("http://127.0.0.1:9"))
    entry = {"name": "llm", "version": "4", "uri": "models:/llm/4"}
    write_json(project / "data" / "register" / "version.json", entry)
    with pytest.raises(TrackingError, match=r"has no models:/llm/4.*set MLFLOW_TRACKING_URI"):
        survey(cleaned(project), registered)


def test_a_cache_that_others_use_is_left_alone_unless_told_and_then_their_needs_count(
    project: Path, registered: Registry, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(project, "clone", "--quiet", str(project), str(other))
    shared = tmp_path / "cache"
    for folder in (project, other):
        (folder / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {shared}\n")
    set_params(other, documents=2, seed=2)
    repro(other)
    plan = survey(cleaned(project), registered)
    assert not plan.freeable
    assert "lies outside of this project" in plan.notes[0]
    assert survey(cleaned(project, shared_cache=True), registered).freeable
    kept = survey(cleaned(project, shared_cache=True, others=(other,)), registered)
    assert [item for item in kept.freeable if not item.name.startswith("timings")] == []
    before = made(other)
    clean_up(project, registered, shared_cache=True, others=(other,))
    shutil.rmtree(other / "models")
    checkout(other)
    assert made(other) == before


def test_earlier_commits_keep_theirs_when_the_history_counts(
    project: Path, registered: Registry
) -> None:
    repro(project)
    commit(project, "one")
    set_params(project, documents=2, seed=2)
    repro(project)
    commit(project, "two")
    assert not survey(cleaned(project, history=True), registered).freeable
    assert survey(cleaned(project), registered).freeable


def test_what_is_young_stays_and_is_counted(project: Path, registered: Registry) -> None:
    repro(project)
    set_params(project, documents=2, seed=2)
    repro(project)
    plan = survey(cleaned(project, older_than_days=1.0), registered)
    assert not plan.freeable
    (young,) = [item for item in plan.kept if item.why == YOUNG]
    assert young.size == sum(item.size for item in survey(cleaned(project), registered).freeable)


def test_a_lock_file_with_conflict_markers_keeps_both_sides(
    project: Path, registered: Registry
) -> None:
    repro(project)
    ours = (project / "dvc.lock").read_text()
    set_params(project, documents=2, seed=2)
    repro(project)
    theirs = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(f"<<<<<<< ours\n{ours}=======\n{theirs}>>>>>>> theirs\n")
    assert not survey(cleaned(project), registered).freeable


def test_only_what_was_shown_is_freed(project: Path, registered: Registry) -> None:
    repro(project)
    set_params(project, documents=2, seed=2)
    repro(project)
    shown = survey(cleaned(project), registered)
    set_params(project, documents=3, seed=3)
    repro(project)  # while the person reads
    now = survey(cleaned(project), registered)
    paths = {path for item in now.within(shown).freeable for path in item.paths}
    assert paths
    assert paths < {path for item in now.freeable for path in item.paths}


def test_the_sizes_are_what_the_disk_gets_back(project: Path, registered: Registry) -> None:
    repro(project)
    set_params(project, documents=2, seed=2)
    repro(project)
    before = _blocks(project / ".dvc" / "cache")
    freed = sum(item.size for item in survey(cleaned(project), registered).freeable)
    clean_up(project, registered)
    assert before - _blocks(project / ".dvc" / "cache") == freed > 0


def _blocks(folder: Path) -> int:
    return size_of([folder])


def _named_anywhere(project: Path, registry: Registry, cache: Cache) -> set[str]:
    """Every md5 that a ref's, version's or the checkout's dvc.lock names, and folders' files."""
    commits = git(
        project, "for-each-ref", "--format=%(objectname)", "refs/heads", "refs/tags", "refs/stash"
    )
    texts = [(project / "dvc.lock").read_bytes()] if (project / "dvc.lock").exists() else []
    for each in commits.split():
        texts += [
            blobs(project, [id_])[id_]
            for path, id_ in tree(project, each).items()
            if path == "dvc.lock"
        ]
    named = {md5 for text in texts for md5 in md5s_in(text)}
    for version in registry.versions("llm"):
        named |= {md5 for key, md5 in version.tags.items() if key.startswith("out/")}
    return expanded(cache, named)
