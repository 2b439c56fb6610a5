"""Looks up what a request refers to, and keeps the response that it gets."""

from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from infermesh_router.openai.conversion import BodyConverter, Converted, Sent
from infermesh_router.responses.convert import Past, convert_response
from infermesh_router.responses.dialect import ResponsesDialect
from infermesh_router.responses.store.kept import KeptResponse
from infermesh_router.responses.store.response_store import ResponseStore
from infermesh_router.responses.told import References, Told, kept_item

_LIGHT_BYTES = 1 << 16


class Keeping:
    """Converts bodies with what was kept, and makes the dialects that keep their responses."""

    def __init__(self, converter: BodyConverter, store: ResponseStore) -> None:
        self._converter = converter
        self._store = store

    async def convert(self, message: bytes, sent: Sent, owner: str) -> Converted:
        """The job of a body. Raises InvalidArgument and FailedPrecondition; NotFound for what is not kept."""
        converted = await self._converter.convert(convert_response, message, sent)
        if isinstance(converted.extra, References):
            past = await self._look_up(converted.extra, owner)
            heavy = sum(map(len, (*past.context, *past.items))) > _LIGHT_BYTES
            converted = await self._converter.convert(partial(convert_response, past=past), message, sent, heavy=heavy)
        return replace(converted, extra=self._as_kept(converted.extra))

    def dialect(self, told: Told, owner: str) -> ResponsesDialect:
        """The dialect that answers one request."""
        return ResponsesDialect(told, partial(self._keep, told, owner))

    async def _keep(self, told: Told, owner: str, response: dict[str, Any]) -> None:
        if told.keeps:
            await self._store.put(
                KeptResponse(
                    id=response["id"],
                    owner=owner,
                    previous=told.previous,
                    body=orjson.dumps(response),
                    input=told.items,
                    output=tuple(map(kept_item, response["output"])),
                )
            )

    def _as_kept(self, told: Told) -> Told:
        """What is told if this router keeps nothing. Raises FailedPrecondition if the request asks to be kept."""
        if self._store.keeps or not told.keeps:
            return told
        if told.asks_to_keep:
            self._store.check("store")
        return replace(told, keeps=False, items=())

    async def _look_up(self, references: References, owner: str) -> Past:
        context: tuple[bytes, ...] = ()
        if references.previous is not None:
            self._store.check("previous_response_id")
            context = await self._store.context(owner, references.previous)
        if references.items:
            self._store.check("input")
        return Past(context, tuple([await self._store.item(owner, each) for each in references.items]))
