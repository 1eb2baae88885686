"""A runtime of MLServer for the files of a package: it has none of its own for ONNX or IR."""

from typing import Any

import openvino
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from mlserver import MLModel


class PackagedFile(MLModel):  # type: ignore[misc]  # its types are not installed here
    async def load(self) -> bool:
        uri = str(self.settings.parameters.uri)
        if uri.endswith(".onnx"):
            import onnxruntime

            session = onnxruntime.InferenceSession(uri, providers=["CPUExecutionProvider"])
            names = [output.name for output in session.get_outputs()]
            self.compute: Any = lambda feed: dict(zip(names, session.run(names, feed), strict=True))
        else:
            compiled = openvino.Core().compile_model(uri, "CPU")
            self.compute = lambda feed: {port.any_name: array for port, array in compiled(feed).items()}
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answer = self.compute({item.name: NumpyCodec.decode_input(item) for item in payload.inputs})
        outputs = [NumpyCodec.encode_output(name, array) for name, array in answer.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
