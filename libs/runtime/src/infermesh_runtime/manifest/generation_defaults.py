"""How a model's makers want its answers sampled, where a request does not say: part of the model's manifest."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec


class GenerationDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Sampling parameters and the length of answers; None where the model does not say. The contract has the ranges."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=2)] | None = None
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] | None = None

    @property
    def sampling(self) -> Mapping[str, float]:
        """The sampling parameters that the model gives, by the contract's names."""
        values = {name: getattr(self, name) for name in self.__struct_fields__ if name != "max_new_tokens"}
        return {name: value for name, value in values.items() if value is not None}


def read_defaults(stored: Mapping[str, Any]) -> tuple[GenerationDefaults | None, list[str]]:
    """The defaults in a generation_config.json, and the names of those that are outside of the contract's ranges.

    None if there are none.
    """
    given: dict[str, Any] = {}
    wrong = []
    for name in GenerationDefaults.__struct_fields__:
        value = stored.get(name)
        if name == "top_k" and value == -1:  # vLLM's word for all tokens
            value = 0
        if value is None:
            continue
        try:
            msgspec.convert({name: value}, GenerationDefaults)
        except msgspec.ValidationError:
            wrong.append(f"{name} = {value!r}")
        else:
            given[name] = value
    return msgspec.convert(given, GenerationDefaults) if given else None, wrong
