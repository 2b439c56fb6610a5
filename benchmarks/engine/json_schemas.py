"""Twenty JSON schemas and any number of prompts: what people ask small models for."""

from itertools import islice, product
from typing import Any

STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}


def record(**properties: Any) -> dict[str, Any]:
    """An object of these members, all of them required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


_POINT = record(x=NUMBER, y=NUMBER)
_SHAPES = {
    "Circle": record(shape={"const": "circle"}, radius=NUMBER),
    "Box": record(shape={"const": "box"}, side=NUMBER),
}

SCHEMAS: dict[str, Any] = {
    "price": record(price=NUMBER),
    "product": record(name=STRING | {"maxLength": 40}, price=NUMBER, in_stock={"type": "boolean"}),
    "person": record(name=STRING | {"maxLength": 40}, age=INTEGER),
    "optional": {"type": "object", "properties": {"name": STRING, "age": INTEGER, "height_m": NUMBER}},
    "temperature": record(city=STRING, celsius=NUMBER | {"minimum": -90, "maximum": 60}),
    "share": record(share=NUMBER | {"exclusiveMinimum": 0, "maximum": 1}),
    "count": record(count=INTEGER | {"minimum": 0}),
    "measure": record(value=NUMBER, unit={"enum": ["m", "kg", "s"]}),
    "point": _POINT,
    "triangle": record(points={"type": "array", "items": _POINT, "minItems": 3, "maxItems": 3}),
    "address": record(street=STRING, number=INTEGER, city=STRING, zip=STRING | {"pattern": "^[0-9]{5}$"}),
    "order": record(id=INTEGER, total=NUMBER, address={"$ref": "#/$defs/a"}) | {"$defs": {"a": record(city=STRING)}},
    "rating": record(stars=INTEGER | {"minimum": 1, "maximum": 5}, comment=STRING | {"maxLength": 80}),
    "choice": record(answer={"enum": ["yes", "no", "maybe"]}, confidence=NUMBER),
    "shape": {"oneOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Box"}], "$defs": _SHAPES},
    "nullable": record(year={"type": ["integer", "null"]}, note={"anyOf": [STRING, {"type": "null"}]}),
    "constant": record(pi=NUMBER | {"minimum": 3}, digits=INTEGER),
    "date": record(date=STRING | {"format": "date"}, day=INTEGER),
    "nested": record(a=record(b=record(c=NUMBER))),
    "empty": {"type": "object", "properties": {}},
}

_QUESTIONS = (
    "Describe {} as JSON.",
    "Give me the facts about {} in JSON.",
    "Return one JSON object for {}.",
    "What do you know about {}? Answer in JSON.",
    "{}: fill in the form.",
)
_SUBJECTS = tuple(
    f"{adjective} {noun}"
    for adjective in ("a red", "the oldest", "a cheap", "an average", "the largest", "a 34 euro", "my", "a broken")
    for noun in (
        "bicycle",
        "house in Rome",
        "apple",
        "planet",
        "car",
        "teacher",
        "river",
        "book",
        "cat",
        "train ticket",
    )
) + tuple(f"number {10**i}" for i in range(20))


def prompts(count: int) -> list[str]:
    """The first `count` of 500 questions."""
    pairs = product(_QUESTIONS, _SUBJECTS)
    return [question.format(subject) for question, subject in islice(pairs, count)]
