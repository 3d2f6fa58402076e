"""How often each document is used, so that groups of sources or domains have given shares of the tokens.

Looks at no text: numbers in, numbers out. Meant for the train split alone, since copies in validation or test
would count some documents twice. The total T decides the rest:

    asked        T = total_tokens
    left open    as many tokens as there are: every document once if the caps allow, the scarce groups
                 repeated, and the plentiful ones cut down where a cap stops that:
                 T = min(max over groups of tokens / share, min over groups of max_repeats x tokens / share)

A group that is to have t tokens and holds A uses all its documents t // A times, and some once more: those
that stand first in an order by hash until the next one would go over t, then the longest that still fit, and
an exchange of one for a longer one closes most of what is left. So each is used as often as the others or
once more, and nothing depends on the order of the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from heliostat.data.mix_config import MixConfig
from heliostat.data.splitting import stirred
from heliostat.errors import DataError


@dataclass(frozen=True)
class MixedGroup:
    """What became of a group: the proof of its share."""

    name: str
    asked_share: float
    reached_share: float
    documents: int
    tokens: int
    used_tokens: int
    """With repeats."""
    left_out_documents: int
    left_out_tokens: int
    copies: int
    """Uses of documents beyond the first."""
    repeated_tokens: int
    """Tokens in those: tokens + repeated_tokens = used_tokens + left_out_tokens."""
    most_uses: int


def group_codes(names: Sequence[str], config: MixConfig) -> np.ndarray:
    """The group of each of these sources or domains: its position among the sorted group names, int64.

    Raises:
        DataError: a name matches no group, or two of them equally well.
    """
    return np.array([_group_of(name, config) for name in names], dtype=np.int64)


def _group_of(name: str, config: MixConfig) -> int:
    best: dict[int, int] = {}
    for position, group in enumerate(config.weights):
        matching = [
            pattern
            for pattern in config.groups[group].match
            if fnmatchcase(name, pattern.replace("[", "[[]"))
        ]
        if matching:
            best[position] = max(len(pattern) - sum(map(pattern.count, "*?")) for pattern in matching)
    if not best:
        raise DataError(
            f"mix: {config.by} '{name}' belongs to no group; add it to the 'match' of one, "
            "or to a group with 'weight: 0' to leave it out"
        )
    first, *others = sorted(best, key=lambda position: -best[position])
    if others and best[others[0]] == best[first]:
        groups = list(config.weights)
        raise DataError(
            f"mix: {config.by} '{name}' belongs to '{groups[first]}' as well as to '{groups[others[0]]}'; "
            "name it in full in the 'match' of one"
        )
    return first


def mix(
    groups: np.ndarray, tokens: np.ndarray, keys: np.ndarray, config: MixConfig
) -> tuple[np.ndarray, tuple[MixedGroup, ...]]:
    """How often to use each document, (num_documents,) int64 from 0 up, and the proof for each group.

    All arrays are (num_documents,): `groups` from `group_codes`, `tokens` integers from 0, `keys` uint64, a
    stable hash of each document, different for different documents.

    Raises:
        DataError: a group with a part of the tokens has none, or the tokens asked for or the shares cannot
            be reached; says what can be.
    """
    available = np.bincount(groups, weights=tokens, minlength=len(config.groups)).astype(np.int64)
    wanted = _wanted_tokens(available, config)
    ranks = stirred(keys, config.seed, 2)
    uses = np.zeros(len(tokens), dtype=np.int64)
    for position in np.flatnonzero(wanted).tolist():
        members = np.flatnonzero(groups == position)
        members = members[np.argsort(ranks[members])]
        uses[members] = _uses(tokens[members], int(wanted[position]))
    proof = tuple(_proofs(groups, tokens, uses, config))
    _require_shares(proof, config)
    return uses, proof


def _wanted_tokens(available: np.ndarray, config: MixConfig) -> np.ndarray:
    """The tokens each group is to have, (num_groups,) int64."""
    names = list(config.weights)
    weights = np.array(list(config.weights.values()))
    for name, weight, count in zip(names, weights.tolist(), available.tolist(), strict=True):
        if weight and not count:
            raise DataError(
                f"mix: group '{name}' has no tokens; its 'match' ({', '.join(config.groups[name].match)}) "
                f"finds no {config.by} with any"
            )
    parts = weights > 0
    shares = weights[parts] / weights.sum()
    repeats = np.array([config.repeats_of(name) for name in names])[parts]
    capped = repeats * available[parts] / shares
    tightest = int(np.argmin(capped))
    total = min(float((available[parts] / shares).max()), float(capped[tightest]))
    if config.total_tokens is not None:
        if config.total_tokens > capped[tightest] * (1 + config.tolerance):
            name = [name for name, part in zip(names, parts.tolist(), strict=True) if part][tightest]
            raise DataError(
                f"mix: total_tokens={config.total_tokens} is out of reach: group '{name}' holds "
                f"{available[parts][tightest]} tokens, used {repeats[tightest]} times at most, so at most "
                f"{int(capped[tightest])} keep its share; lower it, raise max_repeats, or add documents"
            )
        total = min(float(config.total_tokens), float(capped[tightest]))
    wanted = np.zeros(len(names), dtype=np.int64)
    wanted[parts] = np.minimum(np.floor(total * shares + 1e-6), repeats * available[parts])
    return wanted


def _uses(tokens: np.ndarray, wanted: int) -> np.ndarray:
    """Uses of a group's documents, given in their order by hash, for `wanted` tokens or a little less."""
    times, missing = divmod(wanted, int(tokens.sum()))
    uses = np.full(len(tokens), times, dtype=np.int64)
    if not missing:
        return uses
    reach = np.cumsum(tokens)
    first = int(np.searchsorted(reach, missing, side="right"))
    uses[:first] += 1
    missing -= int(reach[first - 1]) if first else 0
    by_length = first + np.argsort(tokens[first:], kind="stable")
    lengths = tokens[by_length]
    at = len(lengths)
    while missing:  # each turn takes the longest that fits; longer ones never will
        at = min(at, int(np.searchsorted(lengths, missing, side="right"))) - 1
        if at < 0:
            break
        uses[by_length[at]] += 1
        missing -= int(lengths[at])
    _exchange(uses, tokens, times, missing)
    return uses


def _exchange(uses: np.ndarray, tokens: np.ndarray, times: int, missing: int) -> None:
    """Give the extra use of one of the last documents that have it to a longer one, if that comes closer."""
    given, others = np.flatnonzero(uses > times)[-256:], np.flatnonzero(uses == times)
    if not missing or not len(given) or not len(others):
        return
    others = others[np.argsort(tokens[others], kind="stable")]
    at = np.searchsorted(tokens[others], tokens[given] + missing, side="right") - 1
    gains = np.where(at >= 0, tokens[others[at]] - tokens[given], 0)
    best = int(np.argmax(gains))
    if gains[best] > 0:
        uses[given[best]] -= 1
        uses[others[at[best]]] += 1


def _proofs(groups: np.ndarray, tokens: np.ndarray, uses: np.ndarray, config: MixConfig) -> list[MixedGroup]:
    used = int((tokens * uses).sum())
    weights = config.weights
    found = []
    for position, (name, weight) in enumerate(weights.items()):
        members = groups == position
        own, times = tokens[members], uses[members]
        extra = np.maximum(times - 1, 0)
        used_tokens = int((own * times).sum())
        found.append(
            MixedGroup(
                name=name,
                asked_share=weight / sum(weights.values()),
                reached_share=used_tokens / used if used else 0.0,
                documents=int(members.sum()),
                tokens=int(own.sum()),
                used_tokens=used_tokens,
                left_out_documents=int((times == 0).sum()),
                left_out_tokens=int(own[times == 0].sum()),
                copies=int(extra.sum()),
                repeated_tokens=int((own * extra).sum()),
                most_uses=int(times.max(initial=0)),
            )
        )
    return found


def _require_shares(proof: Sequence[MixedGroup], config: MixConfig) -> None:
    asked = [group for group in proof if group.asked_share]
    worst = max(asked, key=lambda group: abs(group.reached_share / group.asked_share - 1))
    if abs(worst.reached_share / worst.asked_share - 1) > config.tolerance:
        raise DataError(
            f"mix: group '{worst.name}' reaches {worst.reached_share:.2%} of the tokens where "
            f"{worst.asked_share:.2%} are asked: its {worst.documents} documents are too few or too long; "
            "add documents, or raise total_tokens or tolerance"
        )
