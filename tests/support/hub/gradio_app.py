"""The config and the API description of a small Gradio app."""

from typing import Any

GRADIO_CONFIG: dict[str, Any] = {
    "protocol": "sse_v3",
    "api_prefix": "/gradio_api",
    "components": [{"id": 1, "type": "textbox", "skip_api": False}, {"id": 2, "type": "state"}],
    "dependencies": [{"id": 7, "api_name": "predict", "inputs": [2, 1], "outputs": [1, 2]}],
}


GRADIO_INFO: dict[str, Any] = {
    "named_endpoints": {
        "/predict": {
            "parameters": [{"parameter_name": "text", "type": {"type": "string"}}],
            "returns": [{"label": "Said"}],
        }
    }
}
