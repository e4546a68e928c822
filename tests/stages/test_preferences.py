from collections import Counter

import pytest

from llm.config.align import PreferencesConfig
from llm.config.sampling import SamplingConfig
from llm.data.conversations import Conversation
from llm.errors import DataError
from llm.stages.preferences import choose, pair_of, share

SAMPLING = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=8)


def config(**changes) -> PreferencesConfig:
    values = {"prompts": 10, "samples_per_prompt": 2, "sampling": SAMPLING, "test_frac": 0.2}
    return PreferencesConfig(**(values | {"extra": [], "seed": 1} | changes))


def conversation(number: int, kind: str) -> Conversation:
    messages = [
        {"role": "user", "content": f"What is {number}?"},
        {"role": "assistant", "content": "`x`"},
    ]
    return Conversation(str(number), kind, "test", messages)


def test_prompts_are_spread_evenly_over_the_checkable_kinds() -> None:
    pool = [
        conversation(i, kind)
        for i, kind in enumerate(["import"] * 50 + ["type"] * 3 + ["chat"] * 20)
    ]
    chosen = choose(pool, config())
    assert Counter(c.kind for c in chosen) == {"import": 7, "type": 3}
    with pytest.raises(DataError, match="no conversation that can be checked"):
        choose([conversation(1, "chat")], config())


def test_the_rejected_answer_is_the_first_wrong_one() -> None:
    pair = pair_of(conversation(1, "import"), ["`x`", "`y`", "`z`"])
    assert pair is not None
    assert (pair.chosen, pair.rejected) == ("`x`", "`y`")
    assert pair_of(conversation(1, "import"), ["`x`", " `x` "]) is None


def test_shares_are_even_and_depend_on_id_and_seed() -> None:
    shares = [share(str(i), 1) for i in range(2000)]
    assert abs(sum(value < 0.2 for value in shares) / 2000 - 0.2) < 0.03
    assert shares[0] == share("0", 1) != share("0", 2)
