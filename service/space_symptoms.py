"""What does it mean when a Space did not do what it was called for, and what helps?

The messages are those of `workers.executors.space`; what a Space itself said stands in them.
"""

from typing import Final

from service.symptoms import Symptom, then

OF_SPACES: Final = (
    Symptom(
        r"^The Space \S+ said: .*quota.*[Tt]ry again in (?P<when>[0-9:]+)",
        "your ZeroGPU quota is used up for {when} (hours:minutes:seconds).",
        "Wait that long, or have the person subscribe to PRO for more, " + then(),
    ),
    Symptom(
        r"^The Space \S+ said: .*(?:GPU quota|[Qq]uota exceeded)",
        "your ZeroGPU quota is used up.",
        "It comes back within a day, and PRO has more of it; " + then(),
    ),
    Symptom(
        r"^The Space \S+ said: .*No GPU (?:was|is currently) available",
        "no GPU of ZeroGPU was free for it in time.",
        "That passes: call {again} in a few minutes.",
    ),
    Symptom(
        r"^The Space (?P<space>\S+) (?:said: |ended the call)",
        "the Space {space} ended the call with an error.",
        "Correct what it names, " + then("arguments", "api_name"),
    ),
    Symptom(
        r"^The Space (?P<space>\S+) (?:was paused|has crashed|could not be built|has no app|"
        r"is configured wrongly|is being deleted)",
        "only the owner of the Space {space} can bring it back.",
        "Ask them to, or duplicate it at https://huggingface.co/spaces/{space}, " + then("space"),
    ),
    Symptom(
        r"^The Space (?P<space>\S+) was not ready",
        "the Space {space} did not wake in time; nothing was started.",
        "It may be awake by now: call {again}.",
    ),
    Symptom(
        r"^The Space (?P<space>\S+) does not exist",
        "there is no Space {space} that your token may see.",
        "Check its name, and what your token may read, " + then("space"),
    ),
)
