"""How many steps a budget of tokens pays for. Pure."""

from heliostat.errors import ConfigError


def steps_within(max_tokens: int, num_tokens: int, num_sequences: int, sequences_per_step: int) -> int:
    """The most optimizer steps that read `max_tokens` or fewer of a packed dataset, on average over its
    sequences (`num_sequences` with `num_tokens` in all), of which a step reads `sequences_per_step`.

    Raises:
        ConfigError: one step reads more than that.
    """
    tokens_per_step = num_tokens * sequences_per_step / num_sequences
    steps = int(max_tokens / tokens_per_step)
    if steps < 1:
        raise ConfigError(
            f"max_tokens: {max_tokens} is less than one step reads ({tokens_per_step:.0f} tokens in "
            f"{sequences_per_step} packed sequences); the nearest is max_tokens: {round(tokens_per_step) + 1}"
        )
    return steps
