"""Tables of the known symptoms of a failure, each with its cause and remedy.

In messages the order of `SPACE_SYMPTOMS` and `MESSAGE_SYMPTOMS` counts: the first symptom that
matches wins. Python and Postgres both read the patterns of `LOG_SYMPTOMS`, so these use only syntax
that both have.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from schema.common.text import truncate

MAX_GROUP_CHARS: Final = 200
"""How much of a name in a log or a message is repeated."""
LAUNCH_NEW_JOB: Final = "then launch a new job."
"""The end of a remedy that changes an argument which `retry_job` does not take."""


def then_retry(*overrides: str) -> str:
    """Write the end of a remedy: run it again, and which arguments to override."""
    names = f", overriding {' or '.join(overrides)}" if overrides else ""
    return f"then run it again with retry_job{names}."


@dataclass(frozen=True, slots=True)
class Symptom:
    """A pattern with its cause and remedy; both may name groups and facts of the job in braces."""

    pattern: str
    cause: str
    remedy: str

    def match(self, text: str) -> Mapping[str, Any] | None:
        """Return the groups of the pattern in a text; None if it does not match."""
        match = re.search(self.pattern, text)
        if match is None:
            return None
        groups = match.groupdict(default="")
        return {name: truncate(group, MAX_GROUP_CHARS) for name, group in groups.items()}


_PASS_TOKEN_REMEDY: Final = (
    "Pass pass_token=true, or a token that may read it as the secret HF_TOKEN, " + LAUNCH_NEW_JOB
)

LOG_SYMPTOMS: Final = (
    Symptom(
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory",
        "the GPU of {flavor} ran out of memory",
        "Make the batch or the sequences smaller, accumulate or checkpoint gradients, load the "
        "model in fewer bits, or choose a flavor with more GPU memory (list_hardware), "
        + then_retry("{work}", "flavor"),
    ),
    Symptom(
        r"Found no NVIDIA driver|Torch not compiled with CUDA|no CUDA-capable device|"
        r"CUDA is not available|requires? a GPU|libcuda\.so",
        "it needs a GPU and found none on {flavor}",
        "Choose a flavor with a GPU (list_hardware), and an image built for CUDA, "
        + then_retry("flavor", "image"),
    ),
    Symptom(
        r"no kernel image is available|CUDA driver version is insufficient|forward compatibility",
        "the CUDA build in the image does not fit the GPU of {flavor}",
        "Use an image with a newer PyTorch or CUDA, or another GPU (list_hardware), "
        + then_retry("image", "flavor"),
    ),
    Symptom(
        r"No module named '?(?P<module>[A-Za-z0-9_.]+)",
        "the Python module {module} is not in the image",
        "Use an image that has it, or install it first: {install}; "
        + then_retry("{install_argument}", "image"),
    ),
    Symptom(
        r"No matching distribution found for (?P<requirement>[A-Za-z0-9_.=<>~!\[\]-]+)",
        "pip found no package {requirement} that fits this Python and machine",
        "Correct its name or version, or use an image with another Python, "
        + then_retry("{work}", "image"),
    ),
    Symptom(
        r"No space left on device|Disk quota exceeded",
        "the disk of {flavor} is full",
        "Write less, delete caches as you go, upload results in between, or choose a flavor with "
        "a larger disk (list_hardware), " + then_retry("{work}", "flavor"),
    ),
    Symptom(
        r"not in the authorized list|awaiting a review|[Aa]ccept the (?:conditions|license|terms)",
        "a gated repository has not let you in",
        "Accept its licence at {url}, pass pass_token=true, " + LAUNCH_NEW_JOB,
    ),
    Symptom(
        r"access (?:a )?gated repo|GatedRepoError|is restricted\. You must",
        "it read a gated repository without a token that was let in",
        "Accept its licence at {url}, pass pass_token=true, " + LAUNCH_NEW_JOB,
    ),
    Symptom(
        r"402 (?:Client Error|Payment Required)|Pre-paid credit balance|monthly included credits",
        "a call it made to Hugging Face was not paid for: no credits are left",
        "Add credits at https://huggingface.co/settings/billing, " + then_retry(),
    ),
    Symptom(
        r"403 (?:Client Error|Forbidden)",
        "a call it made was forbidden: its token, if it had one, lacks a permission",
        _PASS_TOKEN_REMEDY,
    ),
    Symptom(
        r"401 (?:Client Error|Unauthorized)|RepositoryNotFoundError|Repository Not Found|"
        r"Invalid (?:user ?name or password|credentials in Authorization)|LocalTokenNotFoundError",
        "it asked Hugging Face for something private, or that does not exist, without a token",
        "Check the name. If it is private: " + _PASS_TOKEN_REMEDY,
    ),
    Symptom(
        r"429 (?:Client Error|Too Many Requests)",
        "a server it called turned it away for calling too often",
        "Call less often, or with a token (pass_token=true), " + LAUNCH_NEW_JOB,
    ),
    Symptom(
        r"executable file not found|: (?:command )?not found$|: not found:",
        "a command it calls is not in the image",
        "Use an image that has it, or install it first, " + then_retry("image", "{work}"),
    ),
    Symptom(
        r"can't open file '(?P<file>[^']+)'|FileNotFoundError.*'(?P<path>[^']+)'",
        "there is no file {file}{path} in the container",
        "Files of your machine are not there: download it in the command, or have it in the image, "
        + then_retry("{work}", "image"),
    ),
    Symptom(
        r"[Ee]xec format error",
        "the program was built for another kind of processor",
        "Use an image for linux/amd64, " + then_retry("image"),
    ),
    Symptom(
        r"MemoryError|Cannot allocate memory|std::bad_alloc|can't allocate memory|^Killed$",
        "{flavor} ran out of memory",
        "Choose a flavor with more memory (list_hardware), or make the work smaller, "
        + then_retry("flavor", "{work}"),
    ),
    Symptom(
        r"insufficient shared memory|Bus error",
        "its processes ran out of shared memory",
        "Use fewer data loader workers (num_workers=0), " + then_retry("{work}", "env"),
    ),
    Symptom(
        r"Temporary failure in name resolution|Name or service not known|Max retries exceeded|"
        r"Connection refused|Connection timed out",
        "it could not reach a server that it called",
        "Check the address, and that it can be reached from the internet, "
        + then_retry("{work}", "env"),
    ),
)

MESSAGE_SYMPTOMS: Final = (
    Symptom(
        r"^Its secrets can no longer be opened",
        "its secrets can no longer be opened.",
        "Run it again with retry_job, and its secrets; tell the operator of Holdfast too.",
    ),
    Symptom(
        r"^Not sent: ",
        "it was not sent, because it cannot be carried out as it is.",
        "Correct what is named, " + then_retry("model", "task", "inputs", "provider"),
    ),
    Symptom(
        r"^The bucket (?P<bucket>\S+) is public",
        "outputs go to the bucket {bucket}, and that one is public.",
        "Make it private at https://huggingface.co/buckets/{bucket}/settings, " + then_retry(),
    ),
    Symptom(
        r"^The bucket (?P<bucket>\S+) cannot be used",
        "your token may not use the bucket {bucket}, where its outputs go.",
        "Give it the permission repo.write on {namespace} at "
        "https://huggingface.co/settings/tokens, or sign in again and grant contribute-repos, "
        + then_retry(),
    ),
    Symptom(
        r"[Mm]issing permissions?:? (?P<missing>[a-z.]+(?:, [a-z.]+)*)",
        "your token lacks the permission {missing} on {namespace}.",
        "Give it that permission there at https://huggingface.co/settings/tokens, or sign in "
        "again and grant it; if it has it, look at the plan of {namespace}; " + then_retry(),
    ),
    Symptom(
        r"permissions to call Inference Providers",
        "your token may not call Inference Providers.",
        "Give it the permission inference.serverless.write at "
        "https://huggingface.co/settings/tokens, or sign in again and grant inference-api, "
        + then_retry(),
    ),
    Symptom(
        r"gated repo|is restricted|not in the authorized list|awaiting a review",
        "the repository is gated, and you have not been let in.",
        "Accept its licence at {url}, " + then_retry(),
    ),
    Symptom(
        r"NO_SUBSCRIPTION",
        "{namespace} has no subscription that pays for it.",
        "Subscribe, or add credits, at https://huggingface.co/settings/billing, " + then_retry(),
    ),
    Symptom(
        r"SPEND_LIMIT",
        "{namespace} has reached its own spending limit at Hugging Face.",
        "Raise that limit at https://huggingface.co/settings/billing, or wait for the next month, "
        + then_retry(),
    ),
    Symptom(
        r"RESOURCE_GROUP_LIMIT",
        "its resource group of {namespace} has reached its limit at Hugging Face.",
        "Have an administrator of {namespace} raise the limit, " + then_retry(),
    ),
    Symptom(
        r"monthly included credits",
        "the monthly credits of {namespace} for Inference Providers are used up.",
        "Buy credits or subscribe to PRO at https://huggingface.co/settings/billing, or wait for "
        "the next month, " + then_retry(),
    ),
    Symptom(
        r"ErrImagePull|ImagePullBackOff|ErrImageNeverPull|InvalidImageName|[Mm]anifest unknown|"
        r"[Mm]anifest for \S+ not found|pull access denied|[Nn]o such image",
        "the image {image} could not be pulled.",
        "Check its name and tag; it has to be public, and built for linux/amd64; "
        + then_retry("image"),
    ),
    Symptom(
        r"StartError|ContainerCannotRun|executable file not found",
        "the command could not be started: {program} is not in the image {image}.",
        "Check how the program is called there, or use an image that has it, "
        + then_retry("{work}", "image"),
    ),
    Symptom(
        r"CreateContainer(?:Config)?Error|RunContainerError",
        "its container could not be created as requested.",
        "Correct what the message names (image, variables, secrets), " + then_retry("image", "env"),
    ),
    Symptom(
        r"ephemeral[- ]storage|[Nn]o space left",
        "the disk of {flavor} is full.",
        "Write less, or choose a flavor with a larger disk (list_hardware), "
        + then_retry("{work}", "flavor"),
    ),
    Symptom(
        r"Evicted|Preempt|NodeLost|[Nn]ode (?:is )?(?:lost|not ready|shut ?down)",
        "Hugging Face took the machine away from it.",
        "Nothing in the job caused this: call {again}.",
    ),
    Symptom(
        r"model_not_found|answered 404|[Mm]odel \S+ (?:does not exist|is not supported|not found)|"
        r"not (?:supported by|a chat model)",
        "the model {model} is not offered there under that name.",
        "Choose one that is, at https://huggingface.co/models?inference_provider=all, or leave "
        "provider out, " + then_retry("model", "provider"),
    ),
    Symptom(
        r"context[ _]length|maximum context|too many (?:input )?tokens|max_(?:new_)?tokens",
        "the model {model} does not take so many tokens.",
        "Shorten inputs or lower max_tokens, or choose a model with a longer context, "
        + then_retry("inputs", "parameters", "model"),
    ),
    Symptom(
        r"[Ff]lavor",
        "Hugging Face does not offer the hardware {flavor}.",
        "Choose one of list_hardware, " + then_retry("flavor"),
    ),
    Symptom(
        r"^413: |[Tt]oo [Ll]arge",
        "the request is larger than Hugging Face takes.",
        "Put large inputs into a repository and pass where they are, "
        + then_retry("{work}", "inputs"),
    ),
    Symptom(
        r"^404: ",
        "Hugging Face knows no {namespace} in which your token may launch this.",
        "Check namespace against whoami, " + LAUNCH_NEW_JOB,
    ),
)

EXIT_CODE_MEANINGS: Final[Mapping[int, tuple[str, str]]] = {
    126: (
        "it cannot be executed: not a program, or not marked as one",
        'Call it through what reads it, as in ["python", "x.py"], ' + then_retry("{work}"),
    ),
    127: (
        "a command it calls is not in the image {image}",
        "Check how the program is called there, or use an image that has it, "
        + then_retry("{work}", "image"),
    ),
    130: ("it was interrupted (SIGINT)", "If it is still wanted, call {again}."),
    134: (
        "it aborted itself (SIGABRT)",
        "Look for what failed above the end of its log, " + then_retry("{work}", "env"),
    ),
    137: (
        "it was killed (SIGKILL), most often because it ran out of memory",
        "Choose a flavor with more memory (list_hardware), or make the work smaller, "
        + then_retry("flavor", "{work}"),
    ),
    139: (
        "it crashed (SIGSEGV) in compiled code",
        "Try other versions of the compiled packages it uses, " + then_retry("image", "{work}"),
    ),
    143: (
        "it was terminated (SIGTERM) from outside",
        "If it is still wanted, call {again}.",
    ),
}


SPACE_SYMPTOMS: Final = (
    Symptom(
        r"^The Space \S+ said: .*quota.*[Tt]ry again in (?P<when>[0-9:]+)",
        "your ZeroGPU quota is used up for {when} (hours:minutes:seconds).",
        "Wait that long, or have the person subscribe to PRO for more, " + then_retry(),
    ),
    Symptom(
        r"^The Space \S+ said: .*(?:GPU quota|[Qq]uota exceeded)",
        "your ZeroGPU quota is used up.",
        "It comes back within a day, and PRO has more of it; " + then_retry(),
    ),
    Symptom(
        r"^The Space \S+ said: .*No GPU (?:was|is currently) available",
        "no GPU of ZeroGPU was free for it in time.",
        "That passes: call {again} in a few minutes.",
    ),
    Symptom(
        r"^The Space (?P<space>\S+) (?:said: |ended the call)",
        "the Space {space} ended the call with an error.",
        "Correct what it names, " + then_retry("arguments", "api_name"),
    ),
    Symptom(
        r"^The Space (?P<space>\S+) (?:was paused|has crashed|could not be built|has no app|"
        r"is configured wrongly|is being deleted)",
        "only the owner of the Space {space} can bring it back.",
        "Ask them to, or duplicate it at https://huggingface.co/spaces/{space}, "
        + then_retry("space"),
    ),
    Symptom(
        r"^The Space (?P<space>\S+) was not ready",
        "the Space {space} did not wake in time; nothing was started.",
        "It may be awake by now: call {again}.",
    ),
    Symptom(
        r"^The Space (?P<space>\S+) does not exist",
        "there is no Space {space} that your token may see.",
        "Check its name, and what your token may read, " + then_retry("space"),
    ),
)
