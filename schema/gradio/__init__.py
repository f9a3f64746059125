"""The HTTP API of Gradio apps: its forms, the app's configuration, and a client."""
