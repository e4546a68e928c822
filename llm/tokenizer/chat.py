"""The special tokens and the chat format, for our encoder and, as a Jinja template, for others'.

A text begins with `<|endoftext|>`, which also separates documents. A turn is
`<|role|>content<|end|>`; a prompt to be answered ends with `<|assistant|>`.
"""

from collections.abc import Sequence

from llm.errors import DataError

BOS, PAD, END = "<|endoftext|>", "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIALS = (BOS, PAD, *(f"<|{role}|>" for role in ROLES), END)  # their ids are 0 to 5

Message = dict[str, str]  # {"role": one of ROLES, "content": text}

CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('a role is system, user or assistant') -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def check_messages(messages: Sequence[Message]) -> None:
    """DataError unless messages are an optional system turn, then user and assistant in turns."""
    roles = [message["role"] for message in messages]
    for role in roles:
        if role not in ROLES:
            raise DataError(f"role {role!r} is unknown; use {', '.join(ROLES)}")
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken:
        raise DataError("a conversation needs a user's message; it has none")
    for position, role in enumerate(spoken):
        expected = ("user", "assistant")[position % 2]
        if role != expected:
            raise DataError(
                f"message {position + len(roles) - len(spoken)} is the {role}'s where the "
                f"{expected}'s is due: user and assistant alternate, after an optional system turn"
            )
