"""Files among the values of a Gradio app, which refers to them by a path on its own disk."""


def find_file_path(value: dict[str, object]) -> str | None:
    """Return the path of a file; None if the value is something else."""
    path = value.get("path")
    if not isinstance(path, str) or not value.keys() & {"meta", "orig_name"}:
        return None
    return path
