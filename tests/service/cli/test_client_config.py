"""Configuration for clients: each is in the form that its client reads."""

import json
import shlex
import tomllib

import pytest

from service.web.client_config import Connection, build_client_configs

TOKEN = "hf_local_x"  # not a real one
LOCAL = Connection("http://127.0.0.1:8765", TOKEN)
PUBLIC = Connection("https://jobs.example", None)


def config_texts(connection: Connection, client: str) -> list[str]:
    return [config.text for config in build_client_configs(connection) if config.client == client]


def test_every_well_known_client_has_a_configuration() -> None:
    assert {config.client for config in build_client_configs(LOCAL)} == {
        "Claude Code",
        "Claude Desktop",
        "holdfast stdio",
        "Cursor",
        "VS Code",
        "Codex",
        "Gemini CLI",
        "ChatGPT",
        "fast-agent",
        "mcp-remote",
        "curl",
    }


@pytest.mark.parametrize(
    ("client", "servers_key"),
    [("Cursor", "mcpServers"), ("VS Code", "servers"), ("Gemini CLI", "mcpServers")],
)
def test_a_client_that_knows_urls_gets_the_endpoint_and_the_token(
    client: str, servers_key: str
) -> None:
    """Gemini CLI would take `url` for a server of the old SSE transport."""
    signed_in = json.loads(config_texts(LOCAL, client)[0])[servers_key]["holdfast"]
    signing_in = json.loads(config_texts(PUBLIC, client)[0])[servers_key]["holdfast"]

    key = "httpUrl" if client == "Gemini CLI" else "url"
    assert signed_in[key] == "http://127.0.0.1:8765/mcp"
    assert signed_in["headers"] == {"Authorization": f"Bearer {TOKEN}"}
    assert signing_in[key] == "https://jobs.example/mcp?login"
    assert "headers" not in signing_in


def test_claude_code_gets_a_command_whose_words_a_shell_keeps_together() -> None:
    connection = Connection("https://jobs.example", "a$b`c\"d'e")

    words = shlex.split(config_texts(connection, "Claude Code")[0])

    assert words[:-2] == [
        *("claude", "mcp", "add", "--transport", "http"),
        *("holdfast", "https://jobs.example/mcp"),
    ]
    assert words[-2:] == ["--header", "Authorization: Bearer a$b`c\"d'e"]


def test_claude_desktop_gets_a_program_that_carries_the_calls() -> None:
    """Its file starts programs and knows no URLs; it also splits an argument at a space."""
    local = json.loads(config_texts(LOCAL, "Claude Desktop")[0])["mcpServers"]["holdfast"]
    public = json.loads(config_texts(PUBLIC, "Claude Desktop")[0])["mcpServers"]["holdfast"]

    assert local["command"] == "npx"
    assert local["args"][:3] == ["-y", "mcp-remote", "http://127.0.0.1:8765/mcp"]
    assert not [word for word in local["args"] if " " in word]
    variable = local["args"][-1].removeprefix("Authorization:${").removesuffix("}")
    assert local["env"] == {variable: f"Bearer {TOKEN}"}
    assert "--allow-http" in local["args"]
    public_url = "https://jobs.example/mcp?login"
    assert public == {"command": "npx", "args": ["-y", "mcp-remote", public_url]}


def test_codex_gets_the_token_by_a_variable() -> None:
    """Codex refuses a file that contains a token."""
    file, shell = config_texts(LOCAL, "Codex")
    server = tomllib.loads(file)["mcp_servers"]["holdfast"]

    assert server["url"] == "http://127.0.0.1:8765/mcp"
    assert shell == f"export {server['bearer_token_env_var']}={TOKEN}"
    assert TOKEN not in file


def test_codex_without_a_token_signs_in() -> None:
    file, shell = config_texts(PUBLIC, "Codex")

    assert tomllib.loads(file)["mcp_servers"]["holdfast"] == {
        "url": "https://jobs.example/mcp?login"
    }
    assert shell == "codex mcp login holdfast"


def test_chatgpt_gets_a_public_url_or_learns_why_it_cannot_have_this_one() -> None:
    """It calls from elsewhere, so an address of this machine would lead it to itself."""
    assert config_texts(PUBLIC, "ChatGPT") == ["https://jobs.example/mcp?login"]
    assert "public https:// URL" in config_texts(LOCAL, "ChatGPT")[0]
    assert TOKEN not in config_texts(LOCAL, "ChatGPT")[0]
