"""What the simulated provider answers: decided before the first byte is sent, by rules that anyone can recompute.

- `Provider-Usage` says the counts. Without it: the prompt is its text's UTF-8 bytes divided by 4, rounded up (never
  more tokens than bytes), and each choice's output is an eighth of the prompt, at least 16 and at most 256 tokens.
- The request's output limit bounds reasoning and output of each choice together, whatever the header says; then the
  finish reason is `length`. Reasoning is generated before text, so that a small limit can leave no text at all.
- `n` multiplies what is generated, not the prompt.
- Each token of text is four bytes: a short word and a space.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tollkeeper_provider.behaviour import Behaviour
from tollkeeper_provider.buckets import Buckets
from tollkeeper_provider.chat_request import ChatRequest
from tollkeeper_provider.errors import Refusal

BYTES_PER_TOKEN: Final = 4
MOST_GENERATED: Final = 1_000_000
_WORDS: Final = tuple(
    "the and for you can see how far our new way has got and why one may ask who did put all the old run off".split(" ")  # noqa: SIM905 - read as a sentence
)

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One decided answer: the prompt's buckets, what each of `choices` generates, and why it ends."""

    prompt: Buckets
    choice: Buckets
    choices: int
    finish_reason: FinishReason

    @property
    def buckets(self) -> Buckets:
        """All that is counted when the answer is complete."""
        return self.after(self.generated)

    @property
    def generated(self) -> int:
        """Tokens generated over all choices."""
        return self.choice.completion * self.choices

    def after(self, generated: int) -> Buckets:
        """What is counted once `generated` tokens are out: choices are generated one after the other."""
        if not self.choice.completion:
            return self.prompt
        whole, rest = divmod(min(generated, self.generated), self.choice.completion)
        return self.prompt + self.choice.times(whole) + self.choice.generated_first(rest)

    def tokens(self) -> Iterator[tuple[int, str | None]]:
        """Each generated token: its choice's index and its text, None for what is not seen (reasoning, audio)."""
        for index in range(self.choices):
            for _ in range(self.choice.reasoning):
                yield index, None
            for position in range(self.choice.output):
                yield index, word(position)
            for _ in range(self.choice.audio_output):
                yield index, None


def decide(request: ChatRequest, told: Buckets | None, behaviour: Behaviour) -> Answer:
    """The answer to a request. Raises `Refusal` (400) for counts that cannot be served in OpenAI's shape."""
    wanted = told if told is not None else counted_by_rule(request.prompt_bytes)
    if wanted.cache_write_1h:
        raise Refusal(
            400,
            "Provider-Usage: cache_write_1h has no field in OpenAI's usage; name cache_write_5m instead",
            param="Provider-Usage",
        )
    limit = None if behaviour.ignore_limit else request.output_limit
    fits = limit is None or wanted.completion <= limit
    choice = wanted.generated_first(wanted.completion if limit is None else limit)
    answer = Answer(wanted.prompt_side(), choice, request.choices, "stop" if fits else "length")
    if answer.generated > MOST_GENERATED:
        raise Refusal(
            400,
            f"the simulated provider generates at most {MOST_GENERATED} tokens for a request, not {answer.generated}",
            param="Provider-Usage",
        )
    return answer


def counted_by_rule(prompt_bytes: int) -> Buckets:
    """The counts of a request that brings no `Provider-Usage`."""
    prompt = -(-prompt_bytes // BYTES_PER_TOKEN)
    return Buckets(input=prompt, output=min(256, max(16, prompt // 8)))


def word(position: int) -> str:
    """The text of the token at this position: always four bytes."""
    return f"{_WORDS[position % len(_WORDS)]} "


def text(tokens: int) -> str:
    """The text of so many tokens."""
    cycle = "".join(word(position) for position in range(len(_WORDS)))
    return (cycle * (tokens // len(_WORDS) + 1))[: tokens * BYTES_PER_TOKEN]
