"""Shared by the client's tests: tiny GGUF files, a home folder, and a real gRPC server to talk to."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from gguf import GGUFWriter, TokenType
from tokenizers.pre_tokenizers import ByteLevel

from infermesh.admin.v1 import admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_client.model_import.workers import checks, provers
from libs.client.tests.mesh_servicer import MeshServicer

CHAT_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_gguf(
    path: Path, *, kind: str = "gpt2", pre: str = "smollm", weight_bytes: int = 4096, **extra: object
) -> Path:
    """A GGUF file with byte-level BPE over all bytes, three merges, and one tensor."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, "he", "ll", "hell"]
    writer = GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(512)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["h e", "l l", "he ll"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, value in extra.items():
        getattr(writer, name)(value)
    writer.add_tensor("token_embd.weight", np.zeros(weight_bytes // 4, dtype=np.float32))
    _finish(writer)
    return path


def write_sentencepiece_gguf(path: Path, *, add_space_prefix: bool = True) -> Path:
    """A GGUF file with a SentencePiece vocabulary: unknown, bos, eos, all bytes, and a few pieces with scores."""
    pieces = ["▁", "h", "e", "l", "o", "▁h", "ll", "▁he", "▁hell", "▁hello"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, "<tool>"]
    types = [
        TokenType.UNKNOWN,
        *[TokenType.CONTROL] * 2,
        *[TokenType.BYTE] * 256,
        *[TokenType.NORMAL] * len(pieces),
        TokenType.USER_DEFINED,
    ]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(len(pieces))] + [0.0])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(add_space_prefix)
    writer.add_tensor("token_embd.weight", np.zeros(8, dtype=np.float32))
    _finish(writer)
    return path


def _finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker checks or tries what the tests import, unless a test installs one."""
    for room in (provers, checks):  # the tests' models have no weights that a worker could run
        monkeypatch.setattr(room, "entry_points", lambda group: [])


@pytest.fixture
def make_gguf() -> Callable[..., Path]:
    return write_gguf


@pytest.fixture
def make_sentencepiece_gguf() -> Callable[..., Path]:
    return write_sentencepiece_gguf


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def models_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models folder of a home of the test's own; INFERMESH_* name it, and a port where nobody listens."""
    for name, value in {"HOME": tmp_path / "home", "GRPC_PORT": 1, "HTTP_PORT": 1}.items():
        monkeypatch.setenv(f"INFERMESH_{name}", str(value))
    monkeypatch.delenv("INFERMESH_MODELS", raising=False)
    monkeypatch.delenv("INFERMESH_MODEL", raising=False)
    return tmp_path / "home" / "models"


@dataclass(frozen=True)
class RunningMesh:
    """A real gRPC server on this machine, and what answers in it."""

    address: str
    servicer: MeshServicer


@pytest.fixture
def mesh() -> Iterator[RunningMesh]:
    servicer = MeshServicer()
    server = grpc.server(ThreadPoolExecutor(8))
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
    admin_pb2_grpc.add_EndpointServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield RunningMesh(f"127.0.0.1:{port}", servicer)
    server.stop(None).wait()
