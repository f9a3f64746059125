"""Guards of the bridge on standard input and output: what it sends, and where a token goes."""

from typing import Final

from service.cli.stdio import (
    bridge,
    command,
    file_upload,
    messages,
    service_client,
    shared_folders,
    streams,
)
from service.cli.stdio import tokens as stdio_tokens
from tests.e2e import test_stdio_upload
from tests.mutants.mutant import mutants_in_file
from tests.service.cli.stdio import test_real_service, test_scripted_service, test_shared_folders

STDIO_GUARDS: Final = (
    *mutants_in_file(
        shared_folders,
        test_shared_folders,
        path_goes_up_nowhere=('if ".." in path.parts:', "if False:"),
        url_is_no_path=("if _URL.match(text):", "if False:"),
        file_is_in_a_shared_folder=("                if path.is_relative_to(root)\n", ""),
        nothing_hidden_is_opened=('if name.startswith("."):', "if False:"),
        link_to_a_file_is_not_followed=(
            "_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW |",
            "_FILE_FLAGS: Final = os.O_RDONLY |",
        ),
        link_to_a_folder_is_not_followed=("os.O_DIRECTORY | os.O_NOFOLLOW |", "os.O_DIRECTORY |"),
        pipe_is_not_waited_for=("os.O_CLOEXEC | os.O_NONBLOCK |", "os.O_CLOEXEC |"),
        device_is_not_opened=(
            "            raise FileRefused(_describe_kind(names[-1], state.st_mode))\n",
            "            pass\n",
        ),
        opened_file_is_looked_at=(
            "                raise FileRefused(_describe_kind(text, state.st_mode))\n",
            "                pass\n",
        ),
        token_file_is_never_sent=("if (state.st_dev, state.st_ino) in excluded:", "if False:"),
        system_folders_are_not_shared=(
            'if resolved == Path("/") or any(resolved.is_relative_to(each)',
            "if any(False",
        ),
        written_file_is_noticed=(
            "return (state.st_size, state.st_mtime_ns) != (self.size, self.modified_ns)",
            "return False",
        ),
    ),
    *mutants_in_file(
        file_upload,
        test_stdio_upload,
        file_goes_to_its_service=(
            "if _read_origin(url) not in map(_read_origin, loopback_aliases(target.endpoint)):",
            "if False:",
        ),
        service_decides_no_own_header=(
            "if isinstance(value, str) and name.lower() not in _OWN_HEADERS",
            "if isinstance(value, str)",
        ),
        written_file_is_not_stored=("if not piece or (", "if False and ("),
    ),
    *mutants_in_file(
        service_client,
        test_scripted_service,
        token_is_not_redirected=(
            "        headers=UNCOMPRESSED,\n",
            "        headers=UNCOMPRESSED,\n        follow_redirects=True,\n",
        ),
        no_proxy_on_this_machine=("trust_env=not on_this_machine", "trust_env=True"),
        answer_is_bounded=("if len(content) > MAX_ANSWER_BYTES:", "if False:"),
        refused_notification_is_not_answered=("if not message.has_answer:", "if False:"),
        lost_answer_is_an_error=(
            '    raise httpx2.ReadError("the stream ended without an answer")\n',
            "",
        ),
    ),
    *mutants_in_file(
        messages,
        test_scripted_service,
        answer_is_one_line=(
            "    return ServerMessage(fields, text.translate(_LINE_BREAKS))\n\n\ndef build_server",
            "    return ServerMessage(fields, text)\n\n\ndef build_server",
        ),
        header_is_encoded=(
            "{key: encode_header_value(value) for key, value in headers.items()}",
            "headers",
        ),
        answer_has_the_id_of_its_request=(
            'if "method" not in fields and fields.get("id") != message.request_id:',
            "if False:",
        ),
    ),
    *mutants_in_file(
        streams,
        test_scripted_service,
        long_line_is_no_message=(
            'lines.append(None if self._length > self._max_bytes else b"".join(self._parts))',
            'lines.append(b"".join(self._parts))',
        ),
    ),
    *mutants_in_file(
        bridge,
        test_scripted_service,
        cancellation_ends_its_request=(
            "                scope.cancel()\n",
            "                pass\n",
        ),
        end_of_input_ends_what_is_open=("            tasks.cancel_scope.cancel()\n", ""),
    ),
    *mutants_in_file(
        command,
        test_real_service,
        token_is_no_argument=("if options.token is not None:", "if False:"),
    ),
    *mutants_in_file(
        stdio_tokens,
        test_real_service,
        pipe_is_no_token_file=("os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC", "os.O_RDONLY"),
    ),
)
