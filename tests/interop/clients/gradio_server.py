"""A Gradio app that is an MCP server: `gradio_server.py PORT`."""

import sys

import gradio


def count_letters(text: str) -> int:
    """Count the letters of a text.

    Args:
        text: in which they are.
    """
    return sum(map(str.isalpha, text))


app = gradio.Interface(count_letters, "text", "number", api_name="count_letters")
app.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), mcp_server=True, quiet=True)
