"""Says which endpoints take a request's images, from what they report of their models."""

from collections.abc import Sequence

import numpy as np

from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.policy.table import Mask, Table
from infermesh_runtime.errors import InvalidArgument


def takes_images(endpoint: EndpointSnapshot, wanted: Wanted) -> bool:
    """`keep_seeing` for one endpoint."""
    return not wanted.image or wanted.model not in endpoint.blind_models


def check_images(endpoints: Sequence[EndpointSnapshot], wanted: Wanted) -> None:
    """Raises InvalidArgument if the request has an image and every endpoint with its model says that it takes none.

    Loading the model or waiting does not help then.
    """
    if not wanted.image:
        return
    having = [e for e in endpoints if wanted.model in e.available or wanted.model in e.models]
    if having and not any(takes_images(e, wanted) for e in having):
        raise refuse_images(having, wanted)


def keep_seeing(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps endpoints on which the model takes images, if the request has one, or of which that is not known."""
    if not wanted.image:
        return kept
    seeing: Mask = kept & np.array([takes_images(e, wanted) for e in table], bool)
    return seeing


def refuse_images(endpoints: Sequence[EndpointSnapshot], wanted: Wanted) -> InvalidArgument:  # noqa: ARG001
    """InvalidArgument with the first image."""
    return InvalidArgument(
        f"{wanted.image}: the model '{wanted.model}' takes no images.",
        reason="NO_IMAGES",
        fields={wanted.image: f"the model '{wanted.model}' takes no images"},
    )
