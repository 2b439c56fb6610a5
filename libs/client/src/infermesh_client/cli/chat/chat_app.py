"""Defines the command line of `infermesh chat`."""

from pathlib import Path
from typing import Annotated

import typer

from infermesh_client.cli.completion import completing
from infermesh_client.cli.help_texts import ASK, examples
from infermesh_client.cli.options import Device, Endpoint

chat_app = typer.Typer()
Prompt = Annotated[
    str | None,
    typer.Argument(
        help="Question to ask; prints the answer and exits. Without a question, starts a chat on a terminal or "
        "reads the question from a pipe."
    ),
]
System = Annotated[str | None, typer.Option(help="System message to put before the conversation.")]
Model = Annotated[
    str,
    typer.Option(
        help="Name of the model to ask; default: the loaded one, or a choice of yours if there are several.",
        autocompletion=completing.models,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Sampling temperature from 0 to 2; 0 always takes the most likely token; default: the model's own, or 0.8."
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Sample only from the most likely tokens that together have this probability; default: the model's "
        "own, or 0.95.",
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Maximum number of tokens in an answer; 0: as many as fit in the context; default: the model's own, "
        "or 1024.",
    ),
]

Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--image", help="Image file (PNG, JPEG, WebP or GIF) that the question is about; may be given several times."
    ),
]


@chat_app.command(
    rich_help_panel=ASK,
    epilog=examples(
        "infermesh chat",
        'infermesh chat "Name three rivers." --temperature 0 --device gpu',
        'infermesh chat --system "Sum this up in a sentence." < notes.txt',
        'infermesh chat --image photo.jpg "What is in this picture?"',
    ),
)
def chat(  # noqa: PLR0917 - typer passes them by name
    prompt: Prompt = None,
    system: System = None,
    model: Model = "",
    device: Device = "",
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    images: Images = None,
    endpoint: Endpoint = None,
) -> None:
    """Chat with a model, or let a base model continue a text.

    Ctrl-C stops an answer, Ctrl-D ends the chat, and /help lists what else can be entered.
    """
    from infermesh_client.cli.chat.chat import run_chat  # noqa: PLC0415 - each subcommand loads only what it needs
    from infermesh_client.cli.chat.options import ChatOptions  # noqa: PLC0415

    run_chat(endpoint, prompt, ChatOptions(system, model, device, temperature, top_p, max_tokens, images or ()))
