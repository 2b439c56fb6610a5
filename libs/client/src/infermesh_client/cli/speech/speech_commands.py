"""Defines `infermesh transcribe` and `infermesh speak`: their arguments and their help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from infermesh_client.cli.completion import completing
from infermesh_client.cli.options import Device, Endpoint

Model = Annotated[
    str,
    typer.Option(help="Name of the model; default: the only one that can do this.", autocompletion=completing.models),
]


def transcribe(  # noqa: PLR0917 - typer passes them by name
    file: Annotated[Path, typer.Argument(help="Sound file with speech: WAV, FLAC, MP3 or OGG.")],
    model: Model = "",
    language: Annotated[str, typer.Option(help="Language of the speech, such as en; default: it is detected.")] = "",
    format_: Annotated[
        Literal["text", "srt", "vtt", "json"],
        typer.Option("--format", help="What to print: the text, subtitles, or JSON with all that the model tells."),
    ] = "text",
    translate: Annotated[bool, typer.Option("--translate", help="Write English, whatever is spoken.")] = False,
    words: Annotated[bool, typer.Option("--words", help="With --format json: also tell the times of words.")] = False,
    device: Device = "",
    endpoint: Endpoint = None,
) -> None:
    """Turn speech into text, and print it as it comes."""
    from infermesh_client.cli.speech.speech import run_transcribe  # noqa: PLC0415 - each subcommand loads only what it needs

    options = {"language": language, "translate": translate, "words": words, "device": device}
    run_transcribe(file, format_, model=model, options=options, endpoint=endpoint)


def speak(  # noqa: PLR0917 - typer passes them by name
    text: Annotated[str, typer.Argument(help="What to say; - reads it from stdin.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .wav file to write.")],
    model: Model = "",
    voice: Annotated[
        str, typer.Option(help="Name of the voice, or several joined by +; default: the model's first.")
    ] = "",
    speed: Annotated[float, typer.Option(min=0.25, max=4, help="How fast to speak.")] = 1.0,
    language: Annotated[str, typer.Option(help="Language of the text, such as en; default: the voice's.")] = "",
    device: Device = "",
    endpoint: Endpoint = None,
) -> None:
    """Turn text into speech, and save it as a WAV file."""
    from infermesh_client.cli.speech.speech import run_speak  # noqa: PLC0415

    options = {"voice": voice, "speed": speed, "language": language, "device": device}
    run_speak(text, output, model=model, options=options, endpoint=endpoint)
