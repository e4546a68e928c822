from pathlib import Path

import pytest
from ruamel.yaml import YAML

from llm.config.base import load_section, read_yaml, validate
from llm.config.corpus import GatherConfig
from llm.config.evaluation import JudgeConfig
from llm.config.model import ModelConfig
from llm.config.params import Params, load_params
from llm.config.presets import (
    apply_overrides,
    apply_preset,
    apply_values,
    changes,
    preset_names,
)
from llm.errors import ConfigError
from tests.conftest import ROOT

TEXT = (ROOT / "params.yaml").read_text()
PRESETS = ROOT / "presets"
load = YAML(typ="safe").load


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in TEXT, old
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    return path


def test_the_projects_params_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.register_.name == "llm"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_layer: 4", "n_layers: 4", r"model.n_layers: unknown key; did you mean 'n_layer'"),
        (
            "stdlib: true",
            "stdlib: true\n      weight: 2",
            r"gather.sources.0.python_docs.weight: unknown key; known keys: kind, limits, name",
        ),
        (
            "limits: {max_documents: 0",
            "limits: {max_document: 0",
            r"max_document: unknown key; did you mean 'max_documents'",
        ),
        ("n_layer: 4", "n_layer: four", r"model.n_layer='four': Input should be a valid integer"),
        ("n_head: 4", "n_head: 3", r"model: n_embd=\d+ must be a multiple of n_head=3"),
        ("  beta: 0.1", "  beta: 0", r"dpo.beta=0: Input should be greater than 0"),
        ("    lr: 6.0e-3\n", "", r"pretrain.optim.lr: missing"),
        (
            "batch_tokens: ",
            "batch_tokens: 1",
            r"pretrain.batch_tokens=\d+ is not a multiple of \d+ .*nearest: \d+",
        ),
        (
            "max_new_tokens: 64",
            "max_new_tokens: 256",
            r"report.sampling.max_new_tokens=256 must be less",
        ),
        (
            "kinds: [import, ",
            "kinds: [",
            r"benchmark.tasks has docs_import, but instructions.kinds",
        ),
        ("lr: 6.0e-3", "lr: .inf", r"pretrain.optim.lr=inf: Input should be a finite number"),
        ("beta1: 0.9", "beta1: 1.0", r"pretrain.optim.beta1=1.0: Input should be less than 1"),
        (
            "pretrain:\n  init_from: ''",
            "pretrain:\n  init_from: hub",
            r"pretrain.init_from='hub' needs its own tokenizer, but tokenizer.init_from=''",
        ),
        (
            "schedule: wsd",
            "schedule: wds",
            r"pretrain.optim.schedule='wds': Input should be 'cos",
        ),
        (
            "warmup_frac: 0.02\n    decay_frac: 0.6",
            "warmup_frac: 0.1\n    decay_frac: 0.95",
            r"pretrain.optim: warmup_frac=0.1 and decay_frac=0.95 overlap",
        ),
        ("attention: full", "attention: strided", r"model: window=0 does not go with attention=st"),
        ("positions: rope", "positions: rotary", r"model.positions='rotary': Input should be 'lea"),
        ("languages: [en]", "languages: []", r"filter.languages=\[\]: List should have at least 1"),
        (
            "alias: candidate",
            "alias: Candidate!",
            r"register.alias='Candidate!': String should match",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_rule(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(changed(tmp_path, old, new))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"group_ranks": 2}, r"launch: group_ranks=2 goes with parallel=hybrid or tensor"),
        ({"parallel": "hybrid"}, r"group_ranks=1 must be 2 or more with parallel=hybrid"),
        (
            {"parallel": "tensor", "nproc_per_node": 4, "group_ranks": 3},
            r"group_ranks=3 must be 2 or more with parallel=tensor, and divide the 4 processes",
        ),
        (
            {"parallel": "tensor", "nproc_per_node": 4, "group_ranks": 4},
            r"model.n_kv_head=2 must be a multiple of launch.group_ranks=4",
        ),
        (
            {"parallel": "tensor", "nproc_per_node": 2, "group_ranks": 2, "model.dropout": 0.1},
            r"model.dropout=0.1 needs another launch.parallel than tensor",
        ),
        (
            {"parallel": "fsdp", "nproc_per_node": 2, "dpo.precision": "fp16"},
            r"dpo.precision=fp16 needs launch.parallel=ddp, not fsdp.*use bf16",
        ),
        (
            {"parallel": "tensor", "nproc_per_node": 2, "group_ranks": 2, "model.kind": "lstm"},
            r"launch.parallel=tensor shares out.*model.kind=lstm has neither; use ddp or fsdp$",
        ),
        (
            {"model.kind": "lstm", "dpo.precision": "float8"},
            r"dpo.precision=float8 is for .*model.kind=lstm has none of; use bf16$",
        ),
        (
            {"model.kind": "lstm", "sft.precision": "bf16_weights"},
            r"sft.precision=bf16_weights is for .*model.kind=lstm has none of; use bf16$",
        ),
        ({"nodes": 3}, r"pretrain.batch_tokens=2048 is not a multiple of \d+ \(3 ranks x"),
    ],
)
def test_what_a_way_of_sharing_out_cannot_do_is_refused(overrides: dict, message: str) -> None:
    keys = {key if "." in key else f"launch.{key}": value for key, value in overrides.items()}
    with pytest.raises(ConfigError, match=message):
        apply_overrides(TEXT, keys)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"steps": 0, "minutes": 0.0}, r"sft.checkpoint: steps=0 and minutes=0 would make no"),
        ({"result": "best"}, r"sft.checkpoint: result=best needs keep_best=1 or more, not 0"),
    ],
)
def test_a_run_has_checkpoints_and_its_best_is_kept(checkpoint: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(TEXT, {f"sft.checkpoint.{key}": v for key, v in checkpoint.items()})


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path, "n_layer: 4", "n_layers: four")
    path.write_text(path.read_text().replace("precision: fp32", "precision: fp12"))
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    lines = str(caught.value).splitlines()
    assert any("n_layers: unknown" in line for line in lines)
    assert any("n_layer: missing" in line for line in lines)
    assert sum("precision='fp12'" in line for line in lines) == 4


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for content, message in (
        (b"a: [", "not valid YAML"),
        (b"- a", "must be a mapping"),
        (b"\xff", "not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_yaml(path)
    with pytest.raises(ConfigError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")


def test_broken_params_are_one_error_for_who_would_write_them(tmp_path: Path) -> None:
    for write in (
        lambda: apply_preset("model: [a?, b]\nmodel: {", "smoke", PRESETS),
        lambda: apply_overrides("model: {", {"model.depth": 2}),
    ):
        with pytest.raises(ConfigError, match=r"params.yaml is not valid YAML"):
            write()


SOURCES = {
    "url": {"files": [{"url": "https://ann:hunter2@a.org/b.jsonl", "sha256": "0" * 64}]},
    "warc": {"paths": ["s3://key:hunter2@bucket/a.warc.gz"]},
    "common_crawl": {
        "crawl": "CC-MAIN-2024-10",
        "archive": "wet",
        "max_files": 1,
        "server": "https://ann:hunter2@data.org",
    },
}


@pytest.mark.parametrize("kind", SOURCES)
def test_an_address_with_credentials_is_refused_and_not_repeated(kind: str) -> None:
    limits = {"max_documents": 0, "max_record_bytes": 1000, "max_inflation": 100}
    source = {"kind": kind, "name": "x", "allow_private": [], "limits": limits, **SOURCES[kind]}
    values = {"sources": [source | ({"text_field": "text"} if kind == "url" else {})]}
    with pytest.raises(ConfigError, match="must not hold a user name or password") as raised:
        validate(GatherConfig, values | {"max_documents": 0, "shard_bytes": 1000}, "gather")
    assert len(str(raised.value).splitlines()) == 1
    assert "hunter2" not in str(raised.value)


def test_the_judges_address_may_hold_no_key() -> None:
    values = load(TEXT)["judge"] | {"base_url": "https://ann:hunter2@a.org/v1"}
    with pytest.raises(
        ConfigError, match=r"judge\.base_url: an address .*OPENAI_API_KEY"
    ) as raised:
        validate(JudgeConfig, values, "judge")
    assert "hunter2" not in str(raised.value)


def test_a_section_loads_alone_and_is_frozen() -> None:
    model = load_section(ModelConfig, "model", ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        model.n_layer = 7  # type: ignore[misc]


@pytest.mark.parametrize("name", preset_names(PRESETS))
def test_default_undoes_a_preset_so_that_the_next_finds_nothing_of_it(name: str) -> None:
    text = apply_preset(TEXT, name, PRESETS)
    validate(Params, load(text), "")
    assert load(apply_preset(text, "default", PRESETS)) == load(TEXT)
    assert load(apply_preset(text, "smoke", PRESETS)) == load(apply_preset(TEXT, "smoke", PRESETS))


def test_a_preset_keeps_the_comments() -> None:
    before = [line for line in TEXT.splitlines() if line.startswith("#")]
    after = [
        line for line in apply_preset(TEXT, "smoke", PRESETS).splitlines() if line.startswith("#")
    ]
    assert before == after


def test_the_default_preset_changes_not_a_byte() -> None:
    assert apply_preset(TEXT, "default", PRESETS) == TEXT


def test_a_value_for_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no key 'n_layers'"):
        apply_values(TEXT, {"model": {"n_layers": 3}}, "mine")
    with pytest.raises(ConfigError, match="no preset 'huge'; there are"):
        apply_preset(TEXT, "huge", PRESETS)


def test_overrides_set_dotted_keys_and_nothing_else() -> None:
    text = apply_overrides(TEXT, {"dpo.beta": 0.2, "sft.optim.lr": 1, "model": {"n_layer": 3}})
    values = YAML(typ="safe").load(text)
    assert changes(YAML(typ="safe").load(TEXT), values) == {
        "dpo": {"beta": 0.2},
        "sft": {"optim": {"lr": 1}},
        "model": {"n_layer": 3},
    }
    assert apply_overrides(TEXT, {}) == TEXT


def test_every_bad_override_is_named_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(TEXT, {"dpo.betta": 0.2, "rows_per_band": 3, "xyzzy": 1})
    assert str(caught.value).splitlines() == [
        "overrides: no key 'dpo.betta'; did you mean 'dpo.beta'?",
        "overrides: no key 'rows_per_band'; did you mean 'dedup.rows_per_band'?",
        "overrides: no key 'xyzzy'; see params.yaml",
    ]
    with pytest.raises(ConfigError, match=r"dpo.beta='a lot': Input should be a valid number"):
        apply_overrides(TEXT, {"dpo.beta": "a lot"})
    with pytest.raises(ConfigError, match=r"'dpo.beta' and all of 'dpo'; choose one"):
        apply_overrides(TEXT, {"dpo": 3, "dpo.beta": 0.2})
    with pytest.raises(ConfigError, match=r"dpo=3: Input should be a valid dict"):
        apply_overrides(TEXT, {"dpo": 3})


def test_every_field_has_a_description_in_the_form() -> None:
    sections = Params.model_json_schema()["$defs"]
    fields = [
        (name, key, spec) for name, s in sections.items() for key, spec in s["properties"].items()
    ]
    assert len(fields) > 100
    assert not [(name, key) for name, key, spec in fields if not spec.get("description")]
