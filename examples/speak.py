"""Speaks a text, and writes the sound to a WAV file.

    make setup-speech
    python examples/get_kokoro.py build/kokoro
    infermesh models import build/kokoro --name kokoro
    python examples/speak.py "The mesh can speak." --output spoken.wav

The model is Kokoro; the mesh at --endpoint runs it. The first letter of a voice says what it speaks: American (a) or
British (b) English, Spanish (e), French (f), Hindi (h), Italian (i) or Portuguese (p).
"""

import argparse
from pathlib import Path

from infermesh_client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--output", type=Path, default=Path("spoken.wav"))
    parser.add_argument("--model", default="kokoro")
    parser.add_argument("--voice", default="af_heart", help="one, or several joined by +")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--endpoint", default="127.0.0.1:8081")
    options = parser.parse_args()
    with Client(options.endpoint) as client:
        spoken = client.speak(options.text, model=options.model, voice=options.voice, speed=options.speed)
    spoken.save(options.output)
    print(f"{spoken.finished.duration_s:.2f} s of speech are in {options.output}")


if __name__ == "__main__":
    main()
