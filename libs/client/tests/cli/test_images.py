"""Tests that image files become the tensors that models take."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infermesh.tensor.v1.tensor_pb2 import DataType, TensorMetadata
from infermesh_client.cli.tensors.images import Normalization, is_image, read_image
from infermesh_runtime.errors import InvalidArgument

UINT8, FP32, INT64 = DataType.DATA_TYPE_UINT8, DataType.DATA_TYPE_FP32, DataType.DATA_TYPE_INT64


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """3 pixels wide, 2 high; the first is red."""
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = (255, 0, 0)
    pixels[1, 2] = (0, 51, 102)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def taken(dtype: DataType, shape: Sequence[int]) -> TensorMetadata:
    return TensorMetadata(name="x", dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    ("shape", "made"),
    [
        ([-1, -1, -1, 3], (1, 2, 3, 3)),
        ([1, 3, -1, -1], (1, 3, 2, 3)),
        ([3, 4, 5], (3, 4, 5)),
        ([7, 8, 1], (7, 8, 1)),
        ([1, 1, 6, 6], (1, 1, 6, 6)),
    ],
)
def test_shape_decides_layout_and_size(photo: str, shape: Sequence[int], made: tuple[int, ...]) -> None:
    assert read_image("x", photo, taken(UINT8, shape), Normalization()).shape == made


def test_pixels_keep_their_values(photo: str) -> None:
    pixels = read_image("x", photo, taken(UINT8, [1, -1, -1, 3]), Normalization())
    assert pixels.dtype == np.uint8
    assert pixels[0, 0, 0].tolist() == [255, 0, 0]
    assert pixels[0, 1, 2].tolist() == [0, 51, 102]


def test_floating_point_numbers_are_normalised_by_channel(photo: str) -> None:
    made = read_image("x", photo, taken(FP32, [1, 3, 2, 3]), Normalization((0.5, 0.0, 0.2), (0.5, 1.0, 2.0)))
    assert made.dtype == np.float32
    assert made[0, :, 1, 2] == pytest.approx([-1.0, 0.2, 0.1])


def test_a_photograph_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    made = read_image("x", str(tmp_path / "turned.jpg"), taken(UINT8, [-1, -1, 3]), Normalization())
    assert made.shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("tensor", "normalization", "words"),
    [
        (None, Normalization(), "does not tell"),
        (taken(INT64, [1, 3, 4, 4]), Normalization(), "INT64"),
        (taken(FP32, [1, 80, 4, 4]), Normalization(), "1 or 3 channels"),
        (taken(FP32, [4, 3, 4, 4]), Normalization(), "one of a batch"),
        (taken(FP32, [4, 3]), Normalization(), "expected .height"),
        (taken(FP32, [1, 3, 4, 4]), Normalization(mean=(1.0, 2.0)), "expected 1 or 3"),
        (taken(UINT8, [1, 3, 4, 4]), Normalization(mean=(1.0,)), "UINT8"),
    ],
)
def test_what_does_not_fit_is_refused(
    photo: str, tensor: TensorMetadata | None, normalization: Normalization, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        read_image("x", photo, tensor, normalization)


def test_damaged_files_and_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InvalidArgument, match=r"bad\.png"):
        read_image("x", str(tmp_path / "bad.png"), taken(UINT8, [-1, -1, 3]), Normalization())
    Image.new("RGB", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InvalidArgument, match="pixels"):
        read_image("x", str(tmp_path / "large.png"), taken(UINT8, [-1, -1, 3]), Normalization())


def test_a_chunk_that_is_damaged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.png"
    Image.effect_noise((512, 512), 100).save(file)
    before, first, rest = file.read_bytes().split(b"IDAT", 2)
    file.write_bytes(b"".join((before, b"IDAT", first, b"\xff\xff\xff\xff", rest)))
    with pytest.raises(InvalidArgument, match=r"bad\.png: the image cannot be read: broken PNG file"):
        read_image("x", str(file), taken(UINT8, [-1, -1, 3]), Normalization())


def test_images_are_known_by_their_names() -> None:
    assert is_image("a/Photo.JPG")
    assert not is_image("a.npy")
