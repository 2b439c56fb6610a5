"""Runs an ONNX file in MLServer, which has no runtime for them. It runs in MLServer's venv."""

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]
from onnxruntime import InferenceSession


class OnnxModel(MLModel):  # type: ignore[misc]
    """A model of one input, x, and one output, y."""

    async def load(self) -> bool:
        """Reads the file."""
        self._session = InferenceSession(self.settings.parameters.uri, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs the model once."""
        (y,) = self._session.run(None, {"x": NumpyCodec.decode_input(payload.inputs[0])})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])
