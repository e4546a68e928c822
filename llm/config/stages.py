"""The stages of the chain in the order of dvc.yaml, by the sub-flow that runs them."""

GROUPS = {
    "corpus": (
        "gather",
        "extract",
        "filter",
        "dedup",
        "decontaminate",
        "tokenizer",
        "tokenize",
    ),
    "train": ("pretrain", "instructions"),  # one beside the other: neither needs the other
    "align": ("sft", "preferences", "reward", "dpo"),
    "evaluate": ("benchmark", "judge", "report", "register"),
}
STAGES = tuple(stage for stages in GROUPS.values() for stage in stages)
