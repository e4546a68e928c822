"""`llm generate`, `llm chat`: write text with a model of this project, or of any folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from llm.config.base import load_section, validate
from llm.config.params import PARAMS
from llm.config.paths import Paths
from llm.config.sampling import SamplingConfig
from llm.errors import LLMError

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="base, sft, dpo, or the path of a folder that a stage wrote."
    ),
]
Temperature = Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")]
TopK = Annotated[int, typer.Option(min=0, help="Keep the k likeliest tokens; 0 keeps all.")]
TopP = Annotated[float, typer.Option(help="Keep the likeliest tokens up to this probability.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Tokens to write at most.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same text.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; `-` reads standard input.")],
    model: Model = "base",
    temperature: Temperature = 0.8,
    top_k: TopK = 50,
    top_p: TopP = 0.95,
    max_new_tokens: MaxNewTokens = 100,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Continue a text."""
    sampling = _sampling(temperature, top_k, top_p, max_new_tokens)
    engine = _engine(model, device)
    text = sys.stdin.read() if prompt == "-" else prompt
    ids = [engine.tokenizer.bos_id, *engine.tokenizer.encode(text)]
    typer.echo(text, nl=False)
    for piece in engine.stream(ids, sampling, seed):
        typer.echo(piece, nl=False)
    typer.echo()


def chat(
    model: Model = "dpo",
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 100,
    seed: Seed = 0,
    device: Device = "auto",
    system: Annotated[str, typer.Option(help="A system message that opens the chat.")] = "",
) -> None:
    """Talk with a model; `/reset` starts again, `/quit` or end of input leaves."""
    sampling = _sampling(temperature, top_k, top_p, max_new_tokens)
    engine = _engine(model, device)
    opening = [{"role": "system", "content": system}] if system else []
    messages = list(opening)
    while (said := _read_line()) not in (None, "/quit"):
        if said == "/reset":
            messages = list(opening)
        elif said:
            messages.append({"role": "user", "content": said})
            answer = ""
            for piece in engine.stream(engine.tokenizer.render_prompt(messages), sampling, seed):
                typer.echo(piece, nl=False)
                answer += piece
            typer.echo()
            messages.append({"role": "assistant", "content": answer})


def _engine(model: str, device: str):
    """The engine of a named model of this project, or of a folder."""
    from llm.inference.engine import Engine

    folder = Path(model)
    if "/" not in model and PARAMS.is_file():
        folder = load_section(Paths, "paths", PARAMS).model(model)
    if not folder.is_dir():
        raise LLMError(
            f"no model folder {folder}; `make repro` trains base, sft and dpo, "
            "or give the path of a Hugging Face folder (with a slash)"
        )
    return Engine.load(folder, device)


def _sampling(temperature: float, top_k: int, top_p: float, max_new_tokens: int) -> SamplingConfig:
    values = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return validate(SamplingConfig, values | {"max_new_tokens": max_new_tokens}, "")


def _read_line() -> str | None:
    """What the person says; None at the end of input."""
    try:
        return input("you> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None
