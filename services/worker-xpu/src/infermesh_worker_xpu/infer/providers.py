"""Chooses the execution providers of onnxruntime, and opens a session on them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_runtime.errors import FailedPrecondition

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_OPENVINO, _TENSORRT = "OpenVINOExecutionProvider", "TensorrtExecutionProvider"
_CODES = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_CHAINS: Mapping[str, Sequence[str]] = {
    "cpu": (_OPENVINO, _CPU),
    "xpu": (_OPENVINO, _CPU),
    "cuda": (_TENSORRT, _CUDA, _CPU),
}
"""Those that serve each kind of device, the best first. Each part of a model goes to the first that can run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSession:
    """An ONNX file that is ready to run."""

    session: Any
    chain: Sequence[str]
    """The providers that were asked for, the best first."""
    in_use: Sequence[str]
    """Those that the session has, the best first."""

    @property
    def runtime(self) -> str:
        """What runs it, in words, such as "onnxruntime 1.32.0 on CUDA (asked for CUDA → CPU)"."""
        asked = " → ".join(map(short, self.chain))
        return f"onnxruntime {onnxruntime.__version__} on {short(self.in_use[0])} (asked for {asked})"

    def device_kind(self, wanted: DeviceKind) -> DeviceKind:
        """The kind of device that runs most of it: "cpu" where no provider of the device's own could be had."""
        return wanted if self.in_use[0] != _CPU else "cpu"


def chain_for(kind: DeviceKind, installed: Sequence[str]) -> Sequence[str]:
    """The providers for a kind of device that the installed onnxruntime has, the best first."""
    usable = [name for name in installed if name != _TENSORRT or find_spec("tensorrt") is not None]
    return tuple(name for name in _CHAINS[kind] if name in usable)


def short(provider: str) -> str:
    """A provider's name without its ending."""
    return provider.removesuffix("ExecutionProvider")


def open_session(graph: Path, kind: DeviceKind, index: int, threads: int) -> OnnxSession:
    """Opens a session on the device. Raises FailedPrecondition, with onnxruntime's reason."""
    chain = chain_for(kind, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it takes processors from others
    options.log_severity_level = 3  # it raises what matters
    try:
        session = onnxruntime.InferenceSession(
            graph, options, providers=[(name, _options(name, kind, index)) for name in chain]
        )
    except Exception as error:  # its exceptions have no common base
        raise FailedPrecondition(
            f"onnxruntime {onnxruntime.__version__} cannot load {graph.name}: {reason_of(error)}",
            reason="MODEL_NOT_SUPPORTED",
        ) from error
    return OnnxSession(session=session, chain=chain, in_use=tuple(session.get_providers()))


def is_too_little_memory(error: BaseException) -> bool:
    """Whether onnxruntime says that memory ran out."""
    return "Failed to allocate memory" in str(error)


def reason_of(error: BaseException) -> str:
    """The first line of onnxruntime's message, without its codes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _CODES.sub("", lines[0])[:300] if lines else type(error).__name__


def _options(provider: str, kind: DeviceKind, index: int) -> dict[str, str]:
    if provider == _OPENVINO:
        return {"device_type": f"GPU.{index}" if kind == "xpu" else "CPU"}
    return {"device_id": str(index)} if provider in {_CUDA, _TENSORRT} else {}
