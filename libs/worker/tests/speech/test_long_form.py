"""The way through a sound: fallback, silence, what is told the next window, words, and where windows begin."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.speech.config import SpeechConfig, read_speech_config
from infermesh_worker.speech.features import Features
from infermesh_worker.speech.hearing import Heard, Segment, Wanted
from infermesh_worker.speech.transcriber import Transcriber
from tests.speech_models.folders import sound, tiny_whisper
from tests.speech_models.scripted import Script, ScriptedSpeech

UNSURE = 2.0
"""So low that the mean log probability is below -1."""


class Case:
    """A scripted model, with words for its tokens."""

    def __init__(self, config: SpeechConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer

    def written(self, *parts: str | float) -> list[int]:
        """Tokens of texts and times (numbers of seconds)."""
        first = self.config.tokens.first_time
        tokens: list[int] = []
        for part in parts:
            if isinstance(part, str):
                tokens += self.tokenizer.encode(part, add_special_tokens=False).ids
            else:
                tokens.append(first + round(part / 0.02))
        return tokens

    def hear(
        self, seconds: float, scripts: Sequence[Script], **wanted: object
    ) -> tuple[Heard, list[Segment], ScriptedSpeech]:
        device = ScriptedSpeech(self.config, scripts)
        segments: list[Segment] = []
        asked = Wanted(**{"language": "en", **wanted})  # type: ignore[arg-type] # fields of any type
        heard = Transcriber(device, self.config, self.tokenizer).transcribe(
            Features(sound(seconds), self.config), asked, segments.append, lambda: None
        )
        return heard, segments, device


@pytest.fixture
def case(config: SpeechConfig, tokenizer: Tokenizer) -> Case:
    return Case(config, tokenizer)


def test_the_next_window_begins_where_the_last_finished_segment_ended(case: Case) -> None:
    scripts = [
        Script(case.written(0.0, " a cat", 0.5, 0.5, " unfinished", 0.9, 0.9, " x")),
        Script(case.written(0.0, " in", 0.6)),
    ]
    heard, segments, device = case.hear(1.5, scripts)
    assert [(s.index, s.begin_s, s.end_s, s.text) for s in segments] == [
        (0, 0.0, 0.5, " a cat"),
        (1, 0.5, 0.9, " unfinished"),
        (2, 0.9, 1.5, " in"),
    ]
    features = Features(sound(1.5), case.config)
    assert np.array_equal(device.windows[1], features.window(90))
    assert heard.duration_s == 1.5
    assert heard.completion_tokens == len(scripts[0].tokens) + len(scripts[1].tokens)


def test_a_single_time_at_the_end_means_silence_until_the_end_of_the_window(case: Case) -> None:
    scripts = [
        Script(case.written(0.0, " a", 0.2, 0.2, " b", 0.4)),
        Script(case.written(0.02, " c", 0.4)),
    ]
    _, segments, _ = case.hear(1.5, scripts)
    assert [(s.begin_s, s.end_s, s.text) for s in segments] == [(0.0, 0.2, " a"), (0.2, 0.4, " b"), (1.0, 1.4, " c")]


def test_text_that_repeats_itself_is_written_again_warmer(case: Case) -> None:
    loop = case.written(0.0, " th" * 12, 0.9)
    scripts = [Script(loop), Script(loop), Script(case.written(0.0, " a cat", 0.9))]
    _, (segment,), device = case.hear(1.0, scripts)
    assert segment.text == " a cat"
    assert segment.writing.temperature == 0.4
    assert len(device.prompts) == 3


def test_improbable_text_is_written_again_and_the_last_one_counts(case: Case) -> None:
    unsure, sure = Script(case.written(0.0, " a", 0.9), sure=UNSURE), Script(case.written(0.0, " b", 0.9))
    _, segments, device = case.hear(1.0, [*[unsure] * 6, *[sure] * 60])
    assert len(device.prompts) == 6 + len(device.windows) - 1
    assert segments[0].writing.temperature == 1.0


def test_a_temperature_that_is_told_is_the_only_one(case: Case) -> None:
    unsure, sure = Script(case.written(0.0, " a", 0.9), sure=UNSURE), Script(case.written(0.0, " b", 0.9))
    _, segments, device = case.hear(1.0, [unsure, *[sure] * 60], temperatures=(0.3,))
    assert len(device.prompts) == len(device.windows)
    assert {segment.writing.temperature for segment in segments} == {0.3}


def test_improbable_text_where_nobody_speaks_is_silence(case: Case) -> None:
    scripts = [
        Script(case.written(0.0, " a", 0.9), sure=UNSURE, no_speech=30.0),
        Script(case.written(0.0, " b", 0.4), no_speech=30.0),
    ]
    _, segments, device = case.hear(1.5, scripts)
    assert [s.text for s in segments] == [" b"]  # it is probable, so it was said
    assert segments[0].writing.no_speech_prob > 0.99
    assert len(device.prompts) == 2


def test_the_next_window_is_told_what_was_said_unless_it_was_guessed(case: Case) -> None:
    tokens = case.config.tokens
    said, prompt = case.written(0.0, " a cat", 0.9), case.written(" the thin")
    start = [tokens.start, tokens.languages["en"], tokens.tasks["transcribe"]]
    sure = [Script(said), Script(case.written(0.0, " b", 0.4))]
    heard, _, device = case.hear(1.5, sure, prompt="the thin")
    assert device.prompts == [[tokens.previous, *prompt, *start], [tokens.previous, *prompt, *said, *start]]
    assert heard.prompt_tokens == len(prompt)
    unsure = [Script(said, sure=UNSURE)] * 6 + [Script(case.written(0.0, " b", 0.4))]
    _, _, device = case.hear(1.5, unsure, prompt="the thin")
    assert device.prompts[-1] == start


def test_a_long_prompt_is_cut_at_its_beginning(case: Case) -> None:
    tokens = case.config.tokens
    _, _, device = case.hear(1.0, [Script(case.written(0.0, " a", 0.9))], prompt="x" * 100 + "y<|endoftext|>")
    (prompt,) = device.prompts
    kept = prompt[1 : prompt.index(tokens.start)]
    assert len(kept) == case.config.positions // 2 - 1
    assert tokens.end not in kept  # what spells a special token is text
    assert case.tokenizer.decode(kept).endswith("y<|endoftext|>")


def test_the_language_is_detected_where_none_is_told(case: Case) -> None:
    heard, _, device = case.hear(1.0, [Script(case.written(0.0, " a", 0.9))], language="", task="translate")
    assert (heard.language, heard.language_probability > 0.99) == ("en", True)
    assert device.prompts[0][2] == case.config.tokens.tasks["translate"]


@pytest.mark.parametrize(("wanted", "field"), [({"language": "klingon"}, "language"), ({"task": "sing"}, "task")])
def test_what_the_model_does_not_know_is_refused_by_name(case: Case, wanted: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        case.hear(1.0, [], **wanted)
    assert field in refused.value.fields


def test_words_follow_one_another_within_the_sound(case: Case) -> None:
    scripts = [Script(case.written(0.0, " a cat.", 0.5, 0.5, " in", 0.7)), Script(case.written(0.0, " a", 0.4))]
    _, segments, _ = case.hear(1.3, scripts, words=True)
    assert [[word.text for word in segment.words] for segment in segments] == [[" a", " cat."], [" in"], [" a"]]
    words = [word for segment in segments for word in segment.words]
    times = [time for word in words for time in (word.begin_s, word.end_s)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 1.3
    assert all(word.probability > 0.99 for word in words)
    assert words[-1].begin_s >= 1.0


def test_a_model_of_english_alone_is_told_no_language(tmp_path: Path) -> None:
    english = tiny_whisper(tmp_path / "english", languages=(), suppress_tokens=None)
    tokenizer = Tokenizer.from_file(str(english / "tokenizer.json"))
    case = Case(read_speech_config(english, tokenizer), tokenizer)
    script = Script(case.written(0.0, " a", 0.9))
    heard, _, device = case.hear(1.0, [script], prompt="x", language="")
    assert heard.language == "en"
    assert device.prompts[0][-1] == case.config.tokens.start
    for wanted in ({"language": "de"}, {"task": "translate"}):
        with pytest.raises(InvalidArgument):
            case.hear(1.0, [script], **wanted)
