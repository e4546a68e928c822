"""A folder that DVC keeps comes back byte for byte, or an error says what is gone."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm.config.base import read_yaml
from llm.errors import DataError
from llm.files import fingerprint, write_json, write_text
from llm.registry import reference as module
from llm.registry.cache import Cache, path_md5
from llm.registry.reference import (
    Reference,
    StoredFile,
    read_reference,
    refer,
    restore,
    write_reference,
)

FILES = {"config.json": "{}", "shards/0.bin": "first", "shards/1.bin": "second"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project that keeps a folder in its cache and in a remote folder."""
    project = tmp_path_factory.mktemp("kept") / "project"
    for path, text in FILES.items():
        write_text(project / "models" / "dpo" / path, text)
    for command in (
        ["init", "--no-scm", "--quiet"],
        ["remote", "add", "--default", "store", "../remote"],
        ["add", "--quiet", "models/dpo"],
        ["push", "--quiet"],
    ):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=project, check=True)
    return project.parent


@pytest.fixture
def project(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, str]]:
    """A copy of it, which is the working directory, and the folder's md5."""
    copy = Path(shutil.copytree(template, tmp_path / "copy")) / "project"
    monkeypatch.chdir(copy)
    module._settings.cache_clear()
    yield copy, read_yaml(copy / "models" / "dpo.dvc")["outs"][0]["md5"]
    module._settings.cache_clear()


def test_a_folder_comes_back_from_the_cache_as_links(project: tuple[Path, str]) -> None:
    folder, md5 = project
    assert path_md5(Path("models/dpo")) == md5
    before = fingerprint(Path("models/dpo"))
    reference = refer("models/dpo", md5)
    assert [(file.path, file.size) for file in reference.files] == [
        (path, len(text)) for path, text in FILES.items()
    ]
    write_reference(folder / "weights.json", reference)
    shutil.rmtree("models")
    restored = restore(read_reference(folder / "weights.json"), folder / "again")
    assert fingerprint(restored) == before
    assert all(path.is_symlink() for path in restored.rglob("*.bin"))


def test_what_the_cache_has_lost_comes_from_the_remote(project: tuple[Path, str]) -> None:
    folder, md5 = project
    before = fingerprint(Path("models/dpo"))
    reference = refer("models/dpo", md5)
    shutil.rmtree("models")
    shutil.rmtree(".dvc/cache")
    assert fingerprint(restore(reference, folder / "again")) == before
    assert fingerprint(restore(refer("models/dpo", md5), folder / "more")) == before


def test_without_a_project_the_named_cache_or_remote_is_enough(
    project: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, md5 = project
    before = fingerprint(Path("models/dpo"))
    reference = refer("models/dpo", md5)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fingerprint(restore(reference, tmp_path / "one")) == before
    shutil.rmtree(folder / ".dvc" / "cache")
    assert fingerprint(restore(reference, tmp_path / "two")) == before


def test_an_unchanged_checkout_is_as_good_as_the_cache(project: tuple[Path, str]) -> None:
    folder, md5 = project
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("../remote")
    restored = restore(refer("models/dpo", md5), folder / "again")
    assert fingerprint(restored) == fingerprint(Path("models/dpo"))
    assert not any(path.is_symlink() for path in restored.rglob("*"))


def test_weights_that_are_gone_or_damaged_are_named(project: tuple[Path, str]) -> None:
    folder, md5 = project
    reference = refer("models/dpo", md5)
    shutil.rmtree("models")
    shutil.rmtree("../remote")
    damaged = Cache(folder / ".dvc" / "cache").path(reference.files[1].md5)
    damaged.chmod(0o644)
    damaged.write_text("first!")
    with pytest.raises(DataError, match=r"models/dpo .*: shards/0.bin .* is not to be had"):
        restore(reference, folder / "again")
    shutil.rmtree(".dvc/cache")
    with pytest.raises(DataError, match="its list of files"):
        refer("models/dpo", md5)


def test_a_file_that_was_damaged_since_is_made_right(project: tuple[Path, str]) -> None:
    folder, md5 = project
    reference = refer("models/dpo", md5)
    restored = restore(reference, folder / "again")
    (restored / "config.json").unlink()
    (restored / "config.json").write_text("[]")
    assert fingerprint(restore(reference, restored)) == fingerprint(Path("models/dpo"))


@pytest.mark.parametrize("path", ["../escaped", "/etc/passwd", "a/../../b", ""])
def test_no_file_is_written_outside_the_folder(path: str) -> None:
    with pytest.raises(DataError, match="is not a path below a folder"):
        StoredFile(path, "0" * 32, 1)


def test_a_reference_keeps_no_credentials_and_refuses_what_is_none(tmp_path: Path) -> None:
    assert module._without_credentials("https://me:secret@host/x") == "https://host/x"
    reference = Reference("models/dpo", "0.dir", (StoredFile("a/b", "1", 2),), "", None)
    write_reference(tmp_path / "weights.json", reference)
    assert read_reference(tmp_path / "weights.json") == reference
    assert reference.below("c/").files == ()
    write_json(tmp_path / "weights.json", {"files": []})
    with pytest.raises(DataError, match="does not name a folder"):
        read_reference(tmp_path / "weights.json")
