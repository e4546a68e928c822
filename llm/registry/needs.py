"""Who needs which objects of the DVC cache: versions, branches, tags, stashes, checkouts.

A dvc.lock (or the .dvc file of `dvc add`) names by md5 what it needs. Those of registered
versions are kept with them; those of branches, tags, stashes and experiments are read from
git, at the tips; those of checkouts from disk and index as well. The texts are searched,
not parsed, so that one that is broken or half merged still keeps what it names.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llm.git import KEPT, blobs, git, git_bytes, tree
from llm.registry.cache import Cache, md5s_in
from llm.registry.record import OUT_TAG
from llm.registry.versions import LOCK_FILE, Registry, Version
from llm.worktree import Checkout

KINDS = {"refs/heads/": "branch", "refs/remotes/": "branch", "refs/tags/": "tag"}


@dataclass(frozen=True)
class Holder:
    """A version, a branch, …, and the md5s that it names; a folder's files are not listed."""

    kind: str
    name: str
    md5s: frozenset[str]


def version_holders(registry: Registry, versions: Iterable[Version]) -> list[Holder]:
    """What each version names, by its tags and by the dvc.lock that it keeps."""
    return [
        Holder("version", _name(version), frozenset(_of_version(registry, version)))
        for version in versions
    ]


def ref_holders(root: Path) -> list[Holder]:
    """Every branch, here and of remotes, tag, stash and experiment of the repository."""
    names: dict[str, list[str]] = {}  # commit to the refs at it
    listed = git(root, "for-each-ref", "--format=%(objectname) %(refname)")
    for line in listed.splitlines():
        commit, ref = line.split(" ", 1)
        if not ref.startswith(KEPT):  # a version's commit; the version names what it needs
            names.setdefault(commit, []).append(ref)
            if ref.endswith("stash"):  # earlier ones are in the log of the ref alone
                for number, each in enumerate(_stashed(root, ref)):
                    names.setdefault(each, []).append(f"{ref}@{{{number}}}")
    locks = _locks_of_commits(root, names)
    return [
        Holder(*_kind_and_name(ref), frozenset(locks[commit]))
        for commit, refs in names.items()
        for ref in refs
    ]


def history_holder(root: Path) -> Holder:
    """Every commit of every branch, tag and stash, not only the tips."""
    commits = git(root, "rev-list", "--all", "--reflog").split()
    found = _locks_of_commits(root, commits)
    return Holder(
        "history", "every commit", frozenset(md5 for each in found.values() for md5 in each)
    )


def checkout_holder(root: Path, checkout: Checkout) -> Holder:
    """What lies in a checkout, committed or not, what is staged there, and its commit."""
    folder = checkout.folder
    staged = git_bytes(folder, "ls-files", "--stage", "-z").decode(errors="surrogateescape")
    entries = [line.split("\t", 1) for line in staged.split("\0") if line]
    ids = [entry[0].split()[1] for entry in entries if _is_lock(entry[1])]
    texts = list(blobs(folder, ids).values()) if ids else []
    others = git_bytes(folder, "ls-files", "--others", "--exclude-standard", "-z")
    paths = {entry[1] for entry in entries} | set(
        others.decode(errors="surrogateescape").split("\0")
    )
    files = {folder / path for path in paths if _is_lock(path)}
    files |= {folder / "dvc.lock", *(folder / ".dvc" / "tmp" / "exps").glob("**/dvc.lock")}
    texts += [path.read_bytes() for path in files if path.is_file()]
    md5s = {md5 for text in texts for md5 in md5s_in(text)}
    if checkout.commit:
        md5s |= _locks_of_commits(root, [checkout.commit])[checkout.commit]
    name = "this one" if folder == root.resolve() else folder.name
    return Holder("checkout", name, frozenset(md5s))


def expanded(cache: Cache, md5s: Iterable[str]) -> set[str]:
    """The md5s and, of the folders among them that the cache has the list of, those of the files.

    A folder without its list could not be checked out before either.
    """
    found = set(md5s)
    for md5 in [md5 for md5 in found if md5.endswith(".dir") and cache.has(md5)]:
        found |= set(cache.files(md5).values())
    return found


def _of_version(registry: Registry, version: Version) -> Iterator[str]:
    for key, md5 in version.tags.items():
        if key.startswith(OUT_TAG):
            yield md5
    if version.run_id and LOCK_FILE in registry.list_files(version, str(Path(LOCK_FILE).parent)):
        yield from md5s_in(registry.files(version, LOCK_FILE).read_bytes())


def _name(version: Version) -> str:
    return " ".join([version.uri, *(f"@{alias}" for alias in version.aliases)])


def _stashed(root: Path, ref: str) -> list[str]:
    """Each entry of a stash, and its parents: what was staged, and what git did not track."""
    lines = git(root, "log", "--walk-reflogs", "--format=%H %P", ref).splitlines()
    return [commit for line in lines for commit in line.split()]


def _locks_of_commits(root: Path, commits: Iterable[str]) -> dict[str, set[str]]:
    """The md5s that the lock files of each commit name."""
    files = {commit: _lock_ids(root, commit) for commit in commits}
    texts = blobs(root, {object_id for ids in files.values() for object_id in ids})
    md5s = {object_id: md5s_in(text) for object_id, text in texts.items()}
    return {
        commit: {md5 for object_id in ids for md5 in md5s[object_id]}
        for commit, ids in files.items()
    }


def _lock_ids(root: Path, commit: str) -> list[str]:
    if git(root, "cat-file", "-t", f"{commit}^{{}}") == "blob":  # a tag may name any object
        return []
    return [
        object_id for path, object_id in tree(root, commit, whole=True).items() if _is_lock(path)
    ]


def _is_lock(path: str) -> bool:
    name = Path(path).name
    return name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc")


def _kind_and_name(ref: str) -> tuple[str, str]:
    for start, kind in KINDS.items():
        if ref.startswith(start):
            return kind, ref.removeprefix(start)
    return ("stash" if "stash" in ref else "ref"), ref.removeprefix("refs/")
