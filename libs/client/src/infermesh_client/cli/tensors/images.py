"""Turns an image file into the tensor that a model takes, by the tensor's shape and type."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from infermesh.tensor.v1.tensor_pb2 import DataType, TensorMetadata
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array, numpy_dtype, type_name

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
_MODES = {1: "L", 3: "RGB"}
"""Pillow's name of an image with so many channels."""
_FLOATS = frozenset({DataType.DATA_TYPE_FP32, DataType.DATA_TYPE_FP16, DataType.DATA_TYPE_FP64})
_ANY = -1


@dataclass(frozen=True, slots=True)
class Normalization:
    """What a pixel p in [0, 1] becomes for models of floating-point numbers: (p - mean) / std, as in torchvision.

    Each has one number, or one for each channel. A model that takes numbers up to 255 has a std of 1/255.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A tensor's type, and where it has an image's dimensions; a size of -1 is any."""

    dtype: DataType
    channels: int
    height: int
    width: int
    channels_first: bool
    has_batch: bool


def is_image(file: str) -> bool:
    """Whether a file is an image by its name."""
    return Path(file).suffix.lower() in SUFFIXES


def read_image(name: str, file: str, taken: TensorMetadata | None, normalization: Normalization) -> Array:
    """The image as the model's input `taken`: of its layout and type, resized (bilinear) where it has a fixed size.

    Raises InvalidArgument for a file that is no image, and for an input that no image fits.
    """
    try:
        layout = _layout(taken)
        pixels = _pixels(Path(file), layout)
        return _as_tensor(pixels, layout, normalization)
    except ValueError as error:
        raise InvalidArgument(f"--input {name}={file}: {error}", fields={"inputs": name}) from error


def _layout(taken: TensorMetadata | None) -> _Layout:
    if taken is None:
        raise ValueError("the mesh does not tell this input's shape, so pass a .npy file")
    shape = list(taken.shape)
    told = f"the model takes {type_name(taken.dtype)} of shape {shape}"
    if taken.dtype != DataType.DATA_TYPE_UINT8 and taken.dtype not in _FLOATS:
        raise ValueError(f"{told}; images fit UINT8, FP16, FP32 and FP64")
    if taken.any_rank or len(shape) not in {3, 4} or (len(shape) == 4 and shape[0] not in {1, _ANY}):
        raise ValueError(f"{told}; expected [height, width, channels] or [channels, height, width], or one of a batch")
    first, second, third = shape[-3:]
    if third in _MODES and first not in _MODES:
        return _Layout(taken.dtype, third, first, second, channels_first=False, has_batch=len(shape) == 4)
    if first in _MODES:
        return _Layout(taken.dtype, first, second, third, channels_first=True, has_batch=len(shape) == 4)
    raise ValueError(f"{told}, in which no dimension has 1 or 3 channels, so pass a .npy file")


def _pixels(file: Path, layout: _Layout) -> Array:
    """UINT8 of shape [height, width, channels]."""
    image = _opened(file, _MODES[layout.channels])
    width = image.width if layout.width == _ANY else layout.width
    height = image.height if layout.height == _ANY else layout.height
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, layout.channels)


def _opened(file: Path, mode: str) -> Image.Image:
    """The image, upright. Raises ValueError for a file that cannot be read, or is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                return ImageOps.exif_transpose(opened).convert(mode)
    except Exception as error:  # Pillow's parsers raise exceptions of many kinds, SyntaxError for a PNG's chunk
        raise ValueError(f"the image cannot be read: {error}") from error


def _as_tensor(pixels: Array, layout: _Layout, normalization: Normalization) -> Array:
    if layout.dtype in _FLOATS:
        for each, values in (("mean", normalization.mean), ("std", normalization.std)):
            if len(values) not in {1, layout.channels}:
                raise ValueError(f"the image's {each} has {len(values)} numbers; expected 1 or {layout.channels}")
        scaled = pixels.astype(np.float64) / 255
        made = ((scaled - np.array(normalization.mean)) / np.array(normalization.std)).astype(numpy_dtype(layout.dtype))
    elif normalization != Normalization():
        raise ValueError("the model takes UINT8, which --image-mean and --image-std do not apply to")
    else:
        made = pixels
    if layout.channels_first:
        made = made.transpose(2, 0, 1)
    return np.ascontiguousarray(made[np.newaxis] if layout.has_batch else made)
