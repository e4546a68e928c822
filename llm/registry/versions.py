"""The versions in MLflow's registry: found by number or alias, with their tags and files.

    registry = Registry(tracking_uri_of(Path(".llm")))
    champion = registry.find("models:/llm@champion")

Beside the model, stage `register` keeps with each version, in the files of its own run:

    lineage/dvc.lock, lineage/params.yaml    every dep, param and out of the run, with hashes
    lineage/packages.txt                     Python's and every installed package's version
    metrics/STAGE.json                       of every stage before `register`
    benchmark/MODEL.json                     every item that the model was tested on
    report/report.html, *_card.md            the run's page and cards

and as tags `git_commit`, `git_dirty`, `params_sha256`, `model`, `weights` (upload or
reference, llm/registry/weights.py), `metric/NAME`, and `out/PATH` with DVC's md5 of every out.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from llm.errors import ConfigError, TrackingError
from llm.tracking.spool import tracking_uri

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # read when it downloads

CHAMPION = "champion"
PREVIOUS = "previous"
CANDIDATE = "candidate"
LOCK_FILE = "lineage/dvc.lock"
PARAMS_FILE = "lineage/params.yaml"
PACKAGES_FILE = "lineage/packages.txt"
REFERENCE = re.compile(r"(?:models:/)?(?P<name>[A-Za-z0-9_.-]+)(?P<kind>[/@])(?P<which>[\w.-]+)")


@dataclass(frozen=True)
class Version:
    """One registered version, as it was when it was read."""

    name: str
    number: str
    run_id: str  # of the stage register, whose files are the version's
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    created_ms: int = 0  # Unix time in milliseconds

    @property
    def uri(self) -> str:
        """`models:/NAME/NUMBER`, which stays the same when aliases move."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """MLflow's registry at `uri`; whatever it cannot do is one TrackingError."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def find(self, reference: str, name: str) -> Version:
        """`models:/llm@champion`, `models:/llm/3`, `llm/3`, or, of model `name`, `3` or `champion`.

        Raises ConfigError when there is no such version, and says which there are.
        """
        if match := REFERENCE.fullmatch(reference):
            name, which = match["name"], match["which"]
            by_alias = match["kind"] == "@"
        else:
            which, by_alias = reference, not reference.isdigit()
        version = self.by_alias(name, which) if by_alias else self.by_number(name, which)
        if version is None:
            known = ", ".join(
                f"{each.number}{''.join(f' @{alias}' for alias in each.aliases)}"
                for each in self.versions(name)
            )
            raise ConfigError(
                f"no version {reference!r} of {name}; there are {known or 'none'}"
                + ("" if known else " (`make repro` registers one)")
            )
        return version

    def find_default(self, reference: str, name: str) -> Version:
        """The version that is named; the champion of `name`, else its candidate, when none is."""
        if reference:
            return self.find(reference, name)
        champion = self.by_alias(name, CHAMPION)
        return champion or self.find(CANDIDATE, name)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version with the alias; None when no version has it, never because MLflow is away."""
        return self._get(lambda: self.client.get_model_version_by_alias(name, alias))

    def by_number(self, name: str, number: str) -> Version | None:
        """The version with the number; None when there is none, never because MLflow is away."""
        return self._get(lambda: self.client.get_model_version(name, number))

    def versions(self, name: str) -> list[Version]:
        """All versions of `name`, oldest first."""
        try:
            found = self.client.search_model_versions(f"name = '{name}'", max_results=10_000)
        except (MlflowException, SQLAlchemyError) as error:
            raise self._unreachable(error) from error
        numbers = sorted((str(each.version) for each in found), key=int)
        # a search does not fill in the aliases
        return [version for number in numbers if (version := self.by_number(name, number))]

    def set_alias(self, version: Version, alias: str) -> None:
        """Give the version the alias, and take it from whichever had it, at once."""
        self._do(
            lambda: self.client.set_registered_model_alias(version.name, alias, version.number)
        )

    def delete_alias(self, name: str, alias: str) -> None:
        """Take the alias from whichever version of `name` has it."""
        self._do(lambda: self.client.delete_registered_model_alias(name, alias))

    def set_tags(self, version: Version, tags: Mapping[str, Any]) -> None:
        """Set tags of the version."""
        for key, value in tags.items():
            self._do(
                lambda key=key, value=value: self.client.set_model_version_tag(
                    version.name, version.number, key, str(value)
                )
            )

    def delete_tag(self, version: Version, key: str) -> None:
        """Remove a tag of the version."""
        self._do(lambda: self.client.delete_model_version_tag(version.name, version.number, key))

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of the registered model itself; none when there is no such model."""
        try:
            return dict(self.client.get_registered_model(name).tags)
        except (MlflowException, SQLAlchemyError) as error:
            if _is_unknown(error):
                return {}
            raise self._unreachable(error) from error

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of the registered model, at once."""
        self._do(lambda: self.client.set_registered_model_tag(name, key, value))

    def delete_model_tag(self, name: str, key: str) -> None:
        """Remove a tag of the registered model."""
        self._do(lambda: self.client.delete_registered_model_tag(name, key))

    def names(self) -> list[str]:
        """Every registered model, whatever its name."""
        found: list[str] = []
        token = None
        while True:
            try:
                page = self.client.search_registered_models(page_token=token)
            except (MlflowException, SQLAlchemyError) as error:
                raise self._unreachable(error) from error
            found += [model.name for model in page]
            token = page.token
            if not token:
                return found

    def list_files(self, version: Version, folder: str | None = None) -> set[str]:
        """The paths of all files that the version keeps, or of those in a folder."""
        return set(self._files_below(version.run_id, folder))

    def files(self, version: Version, path: str) -> Path:
        """A file or folder that the version keeps, on this machine: where it lies, or a copy.

        Raises TrackingError when the version has none there.
        """
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        try:
            # by its address, not by the run's id: that would copy what lies on this machine
            root = self.client.get_run(version.run_id).info.artifact_uri
            return Path(download_artifacts(f"{root}/{path}", tracking_uri=self.uri))
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"{version.uri} keeps no {path} (run {version.run_id} at {self.uri}): {error}"
            ) from error

    def keep(self, version: Version, file: Path, folder: str) -> None:
        """Add a file to those that the version keeps."""
        self._do(lambda: self.client.log_artifact(version.run_id, str(file), folder))

    def _files_below(self, run_id: str, folder: str | None) -> Iterator[str]:
        try:
            entries = self.client.list_artifacts(run_id, folder)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise self._unreachable(error) from error
        for entry in entries:
            if entry.is_dir:
                yield from self._files_below(run_id, entry.path)
            else:
                yield entry.path

    def _get(self, ask: Any) -> Version | None:
        try:
            return _version(ask())
        except (MlflowException, SQLAlchemyError) as error:
            if _is_unknown(error):
                return None
            raise self._unreachable(error) from error

    def _do(self, act: Any) -> None:
        try:
            act()
        except (MlflowException, SQLAlchemyError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> TrackingError:
        return TrackingError(f"MLflow at {self.uri} refuses or does not answer: {error}")


def open_registry(work: Path) -> Registry:
    """The registry of the project whose work in progress lies in `work`.

    Raises TrackingError when that is the project's own file and there is none: asking it
    would make an empty one.
    """
    uri = tracking_uri_of(work)
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and not file.is_file():
        raise TrackingError(
            f"there is no registry {file}; `make repro` makes it with the first version, or set "
            "MLFLOW_TRACKING_URI to where the versions are"
        )
    return Registry(uri)


def tracking_uri_of(work: Path) -> str:
    """MLflow's address for the project whose work in progress lies in `work`."""
    return tracking_uri(work.absolute() / "tracking" / "any")


def _is_unknown(error: Exception) -> bool:
    """An unknown alias is answered with the one code, an unknown model with the other."""
    codes = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), "INVALID_PARAMETER_VALUE"}
    return getattr(error, "error_code", None) in codes


def _version(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        number=str(found.version),
        run_id=found.run_id or "",  # of a model that somebody registered from a folder
        tags=dict(found.tags),
        aliases=tuple(sorted(found.aliases)),
        created_ms=int(found.creation_timestamp or 0),
    )
