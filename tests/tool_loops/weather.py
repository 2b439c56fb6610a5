"""The tool that the models are offered, what they are asked, and what the tool finds."""

from typing import Any

DESCRIPTION = "Get the current weather of a city"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of the city"}},
    "required": ["city"],
}
FUNCTION: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": DESCRIPTION, "parameters": SCHEMA},
}
QUESTION = "What is the weather in Paris? Tell me the temperature."
NEXT_QUESTION = "And what is the weather in Oslo? Tell me the temperature."
TEMPERATURES = {"Paris": "17", "Oslo": "21"}


def result(city: str) -> str:
    """What the tool finds. Raises KeyError for a city that nobody asked for."""
    return f"{TEMPERATURES[city]} degrees Celsius, cloudy"
