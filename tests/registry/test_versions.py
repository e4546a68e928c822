"""Versions are found by number and alias; what is not there is told apart from what cannot be asked."""

from pathlib import Path

import pytest

from llm.errors import ConfigError, TrackingError
from llm.files import write_text
from llm.registry.versions import CHAMPION, Registry, Version


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Whose first version is the champion."""
    registry.set_alias(registry.find("1", "llm"), CHAMPION)
    return registry


@pytest.mark.parametrize("reference", ["champion", "1", "models:/llm@champion", "llm/1"])
def test_one_version_has_many_names(registry: Registry, reference: str) -> None:
    found = registry.find(reference, "llm")
    assert (found.uri, found.aliases) == ("models:/llm/1", ("champion",))


def test_an_unknown_version_is_an_error_that_names_those_there_are(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="no version '7' of llm; there are 1 @champion, 2, 3"):
        registry.find("7", "llm")
    with pytest.raises(ConfigError, match="no version 'best' of other; there are none"):
        registry.find("best", "other")


def test_no_champion_is_none_but_no_answer_is_an_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.by_alias("llm", "nobody") is None
    assert registry.by_alias("other", CHAMPION) is None
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="does not answer"):
        Registry("http://127.0.0.1:9").by_alias("llm", CHAMPION)


def test_an_alias_moves_to_another_version(registry: Registry) -> None:
    registry.set_alias(registry.find("2", "llm"), CHAMPION)
    assert [v.aliases for v in registry.versions("llm")] == [(), ("champion",), ()]


def test_tags_and_files_stay_with_the_version(registry: Registry, tmp_path: Path) -> None:
    version = registry.find("2", "llm")
    registry.set_tags(version, {"gate/size": "pass"})
    write_text(tmp_path / "evidence.json", "{}")
    registry.keep(version, tmp_path / "evidence.json", "promotion")
    again: Version = registry.find("2", "llm")
    assert again.tags["gate/size"] == "pass"
    assert registry.files(again, "promotion/evidence.json").read_text() == "{}"
    with pytest.raises(TrackingError, match="keeps no lineage"):
        registry.files(again, "lineage/dvc.lock")
