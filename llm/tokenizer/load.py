"""A trained tokenizer in use: text to ids and back, conversations to ids and loss masks."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from llm.errors import DataError
from llm.tokenizer.chat import BOS, END, PAD, ROLES, SPECIALS, Message, check_messages
from llm.tokenizer.folder import TOKENIZER_FILE, save_tokenizer


class Tokenizer:
    """Lossless text <-> ids; what looks like a special token in a text is encoded as plain text."""

    def __init__(self, backend: tokenizers.Tokenizer, hash: str, bos: str = BOS) -> None:
        self.backend, self.bos = backend, bos
        self.hash = hash  # sha256 of tokenizer.json, hex
        backend.encode_special_tokens = True  # nobody's text can open an assistant's turn
        vocab = backend.get_vocab()
        wanted = (bos, *SPECIALS[1:])
        ids = {token: vocab[token] for token in wanted if token in vocab}
        if missing := [token for token in wanted if token not in ids]:
            raise DataError(
                f"the tokenizer lacks the special tokens {', '.join(missing)}; "
                "use one made by the tokenizer stage"
            )
        self.bos_id = ids[bos]  # begins a text, separates documents
        self.pad_id = ids[PAD]
        self.end_id = ids[END]  # ends a turn
        self.role_ids = {role: ids[f"<|{role}|>"] for role in ROLES}
        self.system_id, self.user_id, self.assistant_id = (self.role_ids[role] for role in ROLES)
        self.stop_ids = (self.bos_id, self.end_id)  # generation ends at either

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """The tokenizer of a folder that the tokenizer stage or a training stage wrote."""
        backend, content = _read(folder)
        return cls(backend, hashlib.sha256(content).hexdigest(), _bos(folder, backend))

    @classmethod
    def adopt(cls, folder: Path) -> "Tokenizer":
        """The tokenizer of a published folder: its ids stay, chat markers it lacks come after them."""
        backend, _ = _read(folder, "init_from names a folder on this disk with a published model")
        bos = _bos(folder, backend)
        backend.no_padding()
        backend.no_truncation()
        backend.add_special_tokens([bos, *SPECIALS[1:]])  # those there are keep their ids
        return cls(backend, hashlib.sha256(backend.to_str().encode()).hexdigest(), bos)

    def save(self, folder: Path, block_size: int | None = None) -> None:
        """Write the tokenizer's files beside a model's weights; the hash stays the same."""
        save_tokenizer(folder, self.backend, block_size, self.bos)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, nothing added."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int], *, keep_specials: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=not keep_specials)

    def render_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation whose next turn is the assistant's."""
        check_messages(messages)
        if messages[-1]["role"] != "user":
            raise DataError("a prompt ends with the user's message; leave out the answer")
        return [*self._turns(messages)[0], self.assistant_id]

    def render(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """The ids of a conversation, and True where they are the assistant's content or its end."""
        check_messages(messages)
        return self._turns(messages)

    def _turns(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        ids, loss_mask = [self.bos_id], [False]
        for message in messages:
            content = self.encode(message["content"])
            ids += [self.role_ids[message["role"]], *content, self.end_id]
            loss_mask += [False, *[message["role"] == "assistant"] * (len(content) + 1)]
        return ids, loss_mask


def _read(
    folder: Path, remedy: str = "`dvc repro tokenizer` makes it"
) -> tuple[tokenizers.Tokenizer, bytes]:
    path = folder / TOKENIZER_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; {remedy}") from None
    try:
        return tokenizers.Tokenizer.from_buffer(content), content
    except ValueError as error:
        raise DataError(f"{path} is not a tokenizer: {error}") from None


def _bos(folder: Path, backend: tokenizers.Tokenizer) -> str:
    """What begins a text: `<|endoftext|>` where the tokenizer knows it, else what its config names."""
    path = folder / "tokenizer_config.json"
    if BOS in backend.get_vocab() or not path.is_file():
        return BOS
    try:
        token = json.loads(path.read_text(encoding="utf-8")).get("bos_token")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a tokenizer's config: {error}") from None
    return (token["content"] if isinstance(token, dict) else token) or BOS
