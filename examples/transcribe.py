"""Writes down what is said in a recording, each part as soon as it is known.

    python examples/get_whisper.py build/whisper-base
    infermesh models import build/whisper-base --name whisper-base
    python examples/transcribe.py examples/data/jfk.mp3

The model is Whisper base; the mesh at --endpoint runs it. Takes WAV, FLAC, MP3 and OGG files of any length.
"""

import argparse
from pathlib import Path

from infermesh_client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--language", default="", help="default: it is detected")
    parser.add_argument("--words", action="store_true", help="say when each word was said")
    parser.add_argument("--endpoint", default="127.0.0.1:8081")
    options = parser.parse_args()
    with Client(options.endpoint) as client:
        for segment in client.transcribe_segments(
            options.recording, model=options.model, language=options.language, words=options.words
        ):
            for part in segment.words if options.words else [segment]:
                print(f"{part.start_s:7.2f} s to {part.end_s:7.2f} s  {part.text.strip()}", flush=True)


if __name__ == "__main__":
    main()
