"""The bodies of /tokenize, /detokenize and /apply-template."""

from typing import Annotated

from pydantic import Field

from infermesh_router.openai.schema.fields import Strict, TokenId
from infermesh_router.openai.schema.messages import Conversation
from infermesh_router.openai.schema.tools import Tooled


class _Common(Strict):
    model: str | None = None
    """Needed only if there are several models."""
    device: str | None = None


class TokenizeText(_Common):
    """A text to tokenise."""

    prompt: str
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class TokenizeChat(Conversation, Tooled, _Common):
    """A conversation to render and tokenise, with its tools as the chat template shows them."""

    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(_Common):
    """Token ids to turn into text."""

    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
