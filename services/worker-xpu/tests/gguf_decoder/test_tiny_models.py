"""Tiny models that differ as real ones do: worker-xpu computes them as numpy does, or they are refused by name."""

from collections.abc import Iterator

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker_xpu.build_model import build_model
from tests.gguf_files.tiny_worker import (
    TinyWorker,
    check_chat,
    check_load_refused,
    check_refusal,
    check_tokens,
    convert_here,
)

USER = pb.ChatMessage(role="user", content="hello")
FRAMED = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorker]:
    with pytest.MonkeyPatch.context() as patch:
        convert_here(patch)  # torch runs the file itself
        options = {"device": "cpu", "numerics": "exact", "threads": 1, "compile": "off"}
        yield TinyWorker(tmp_path_factory.mktemp("tiny"), build_model, options)


@pytest.mark.parametrize("name", ["plain", "rope_freqs", "rope_linear"])
def test_tokens_are_those_of_the_reference(worker: TinyWorker, name: str) -> None:
    check_tokens(worker, name)


@pytest.mark.parametrize("message", [USER, pb.ChatMessage(role="user", content_parts=["hel", "lo"])])
async def test_a_template_that_reads_parts_gets_the_text(worker: TinyWorker, message: pb.ChatMessage) -> None:
    await check_chat(worker, "template_parts", FRAMED.rstrip(), message)  # as templates end in files


async def test_tools_are_none_in_a_plain_chat(worker: TinyWorker) -> None:
    await check_chat(worker, "template_tools_none", FRAMED, USER)


async def test_a_developers_message_is_in_the_prompt(worker: TinyWorker) -> None:
    developer = pb.ChatMessage(role="developer", content="Be brief.")
    await check_chat(worker, "template_developers", "system: Be brief.\nuser: hello\n", developer, USER)


def test_a_broken_template_is_refused_with_its_line(worker: TinyWorker) -> None:
    check_refusal(worker, "template_broken", "syntax error in line 1")


def test_a_shard_without_its_sibling_is_refused(worker: TinyWorker) -> None:
    check_refusal(worker, "split_1_of_2", "is shard 1 of 2")


def test_weights_with_nan_are_refused_by_name(worker: TinyWorker) -> None:
    check_load_refused(worker, "nan_weight", r"tensor blk\.1\.ffn_norm\.weight has values that are NaN")
