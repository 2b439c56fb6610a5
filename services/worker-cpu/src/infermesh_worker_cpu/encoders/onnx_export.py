"""Opens the ONNX export of an encoder, and finds which of its outputs to read."""

from pathlib import Path

import openvino as ov

from infermesh_worker.models.encoder_export import check_inputs, export_graph, output_index
from infermesh_worker_cpu.infer.compiling import read


def open_export(core: ov.Core, folder: Path, *, scores: bool) -> tuple[ov.Model, int]:
    """The model, and the index of the output to read.

    Raises FailedPrecondition for a graph that is no encoder of this kind.
    """
    graph = export_graph(folder)
    model = read(core, graph)
    check_inputs(graph, [port.get_names() for port in model.inputs])
    shapes = [(port.get_names(), port.get_partial_shape().rank) for port in model.outputs]
    ranks = [(names, rank.get_length() if rank.is_static else 0) for names, rank in shapes]
    return model, output_index(graph, ranks, scores=scores)
