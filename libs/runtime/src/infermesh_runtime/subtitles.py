"""Writes the cues of subtitles: SubRip (.srt) and WebVTT (.vtt)."""

VTT_HEAD = "WEBVTT\n\n"
"""What a WebVTT file begins with."""


def srt_cue(number: int, start_s: float, end_s: float, text: str) -> str:
    """A cue of SubRip; numbers begin at 1."""
    return f"{number}\n{_clock(start_s, ',')} --> {_clock(end_s, ',')}\n{_lines(text)}\n\n"


def vtt_cue(start_s: float, end_s: float, text: str) -> str:
    """A cue of WebVTT."""
    return f"{_clock(start_s, '.')} --> {_clock(end_s, '.')}\n{_lines(text)}\n\n"


def _lines(text: str) -> str:
    """The text of a cue, which must not look like its times, nor have an empty line, which would end it."""
    lines = (line.strip() for line in text.replace("-->", "->").splitlines())
    return "\n".join(line for line in lines if line)


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
