"""Penalties, logprobs, bias and the like: exact in the sampler, and in each engine as far as it has them."""

from collections import Counter

import pytest
from tests.serving.asking import collect, collect_all

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import SamplingParameters

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]


@pytest.fixture(scope="module")
def prompt(tiny_tokenizer) -> list[int]:
    return tiny_tokenizer.encode("The path is a file. Return a copy of the string.")


@pytest.fixture(scope="module")
def logits_of(tiny_model_folder):
    import torch

    from heliostat.models.loading import load_model

    model = load_model(tiny_model_folder)

    def logits(ids):
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids])).logits[0, -1].double()

    return logits


def parameters(**given) -> SamplingParameters:
    return SamplingParameters(**{"max_tokens": 24, "temperature": 0, **given})


def lacks(engine, wanted: SamplingParameters) -> bool:
    can = engine.capabilities
    return (
        (bool(wanted.presence_penalty or wanted.frequency_penalty) and not can.penalties)
        or (bool(wanted.logit_bias) and not can.logit_bias)
        or (wanted.logprobs or 0) > (can.max_top_logprobs or 0)
    )


def expected(logits_of, prompt, wanted: SamplingParameters) -> list[int]:
    """By the definitions, with plain Python over doubles."""
    ids = list(prompt)
    for _ in range(wanted.max_tokens):
        logits = logits_of(ids).tolist()
        for token, bias in wanted.logit_bias:
            logits[token] += bias
        for token in set(ids):
            penalty = wanted.repetition_penalty
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        for token, count in Counter(ids[len(prompt) :]).items():
            logits[token] -= wanted.presence_penalty + count * wanted.frequency_penalty
        ids.append(max(range(len(logits)), key=logits.__getitem__))
    return ids[len(prompt) :]


PENALTIES = {
    "repetition": {"repetition_penalty": 1.3},
    "rewarded repetition": {"repetition_penalty": 0.7},
    "frequency": {"frequency_penalty": 0.8},
    "rewarded frequency": {"frequency_penalty": -0.8},
    "presence": {"presence_penalty": 1.5},
    "all": {"repetition_penalty": 1.2, "frequency_penalty": 0.4, "presence_penalty": 0.4},
    "bias": {"logit_bias": ((5, 100.0), (7, -100.0))},
}


@pytest.mark.parametrize("name", PENALTIES)
async def test_a_penalty_is_exact_or_refused(engine, prompt, logits_of, name):
    wanted = parameters(**PENALTIES[name])
    if lacks(engine, wanted):
        with pytest.raises(ServingError, match="this engine has no"):
            await collect(engine, prompt, wanted)
    else:
        assert (await collect(engine, prompt, wanted))[0] == expected(logits_of, prompt, wanted)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.6, "seed": 3},
        {"temperature": 1, "top_k": 9, "top_p": 0.8, "min_p": 0.1, "seed": 3},
    ],
)
async def test_logprobs_are_those_of_the_models_own_distribution(engine, prompt, logits_of, changes):
    wanted = parameters(logprobs=0, repetition_penalty=1.1, **changes)
    ids, _, logprobs = await collect_all(engine, prompt, wanted)
    assert len(logprobs) == len(ids) == 24
    so_far = list(prompt)
    for token, logprob in zip(ids, logprobs, strict=True):
        assert logprob.logprob == pytest.approx(float(logits_of(so_far).log_softmax(0)[token]), abs=2e-3)
        assert logprob.top == ()
        so_far.append(token)


async def test_without_asking_there_are_no_logprobs(engine, prompt):
    assert (await collect_all(engine, prompt, parameters()))[2] == []


async def test_the_likeliest_tokens_come_with_their_logprobs_or_are_refused(engine, prompt, logits_of):
    wanted = parameters(max_tokens=2, logprobs=20)
    if lacks(engine, wanted):
        with pytest.raises(ServingError, match="top logprobs"):
            await collect(engine, prompt, wanted)
        return
    _, _, (first, _) = await collect_all(engine, prompt, wanted)
    best = logits_of(prompt).log_softmax(0).topk(20)
    assert [token for token, _ in first.top] == best.indices.tolist()
    assert [value for _, value in first.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert first.top[0][1] == pytest.approx(first.logprob)


@pytest.mark.parametrize("changes", [{"min_p": 0.8}, {"top_k": 3}, {"top_p": 0.02}])
async def test_a_sample_stays_among_what_is_kept(engine, prompt, logits_of, changes):
    probabilities = logits_of(prompt).softmax(0)
    order = probabilities.argsort(descending=True).tolist()
    if "min_p" in changes:
        kept = {token for token in order if probabilities[token] >= 0.8 * probabilities[order[0]]}
    elif "top_k" in changes:
        kept = set(order[:3])
    else:
        total, kept = 0.0, set()
        while total < 0.02:
            kept.add(order[len(kept)])
            total = float(sum(probabilities[token] for token in kept))
    assert len(kept) < len(order) / 2
    drawn = set()
    for seed in range(60):
        ids, _ = await collect(engine, prompt, parameters(max_tokens=1, temperature=1, seed=seed, **changes))
        drawn |= set(ids)
    assert drawn <= kept
    assert len(drawn) > 1


async def test_the_smallest_temperatures_are_greedy(engine, prompt):
    greedy = await collect(engine, prompt, parameters())
    for temperature in (1e-9, 1e-300):
        assert await collect(engine, prompt, parameters(temperature=temperature)) == greedy


async def test_a_token_id_that_is_none_is_refused_and_harms_nobody(engine, prompt):
    for wrong in (10**6, -1, 2**40):
        with pytest.raises(ServingError):
            await collect(engine, [*prompt, wrong], parameters())
    assert len((await collect(engine, prompt, parameters()))[0]) == 24


async def test_an_empty_prompt_is_refused(engine, prompt):
    with pytest.raises(ServingError):
        await collect(engine, [], parameters())
    assert len((await collect(engine, prompt, parameters()))[0]) == 24


async def test_embeddings_are_means_of_length_one_or_refused(engine, prompt, tiny_model_folder):
    if not engine.capabilities.embeddings:
        with pytest.raises(ServingError, match="no embeddings"):
            await engine.embed([prompt])
        return
    import torch

    from heliostat.models.loading import load_model

    ours, other = await engine.embed([prompt, prompt[:3]])
    with torch.inference_mode():
        states = load_model(tiny_model_folder).model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
    mean = states.mean(0)
    assert ours == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)
    assert sum(value**2 for value in other) == pytest.approx(1)
    with pytest.raises(ServingError, match="no tokens"):
        await engine.embed([[]])


@pytest.mark.parametrize(
    ("parameters", "allowed"),
    [
        (SamplingParameters(max_tokens=1, temperature=0), {1}),
        (SamplingParameters(max_tokens=1, top_k=2), {1, 3}),
        (SamplingParameters(max_tokens=1, top_p=0.6), {1}),
        (SamplingParameters(max_tokens=1, top_p=0.7), {1, 3}),
        (SamplingParameters(max_tokens=1), {0, 1, 2, 3}),
    ],
)
def test_sampling_keeps_the_tokens_it_should(parameters, allowed):
    import torch

    from heliostat.serving.engines.sampling import next_token

    logits = torch.tensor([0.1, 0.64, 0.05, 0.21]).log()
    generator = torch.Generator().manual_seed(0)
    assert {next_token(logits, parameters, generator) for _ in range(300)} == allowed


def test_sampling_follows_the_probabilities():
    import torch

    from heliostat.serving.engines.sampling import next_token

    logits = torch.tensor([0.2, 0.8]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = [next_token(logits, SamplingParameters(max_tokens=1), generator) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.8, abs=0.03)
    cold = SamplingParameters(max_tokens=1, temperature=0.5)  # squares the odds: 16 to 1
    drawn = [next_token(logits, cold, generator) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(16 / 17, abs=0.02)
