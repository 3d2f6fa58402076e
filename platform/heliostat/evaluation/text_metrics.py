"""What a written answer scores against the right ones: a number, or the sums a metric is made of."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from heliostat.evaluation.metrics import CHRF_ORDER

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(r"-?[$€£]?-?\d[\d,]*(?:\.\d+)?")


def score_text(metric: str, answer: str, references: Sequence[str]) -> float | list[float]:
    """One metric of one answer; of several right answers the one that it comes nearest to counts."""
    if metric == "bleu":
        return _bleu_sums(answer, references)
    if metric == "chrf":
        return max((_chrf_sums(answer, each) for each in references), key=_chrf_of)
    if metric.startswith("rouge"):
        scores = _rouge(metric).score_multi(list(references), answer)
        return float(scores[metric].fmeasure)
    by_pair = {
        "exact_match": exact_match,
        "normalised_match": normalised_match,
        "f1": f1,
        "numeric": numeric_match,
    }[metric]
    return max(by_pair(answer, each) for each in references)


def exact_match(answer: str, reference: str) -> float:
    """1 where they are the same, letter by letter."""
    return float(answer == reference)


def normalised_match(answer: str, reference: str) -> float:
    """1 where they are the same but for case, punctuation, articles and white space (SQuAD's exact match)."""
    return float(normalise(answer) == normalise(reference))


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised words (Rajpurkar et al. 2016, SQuAD)."""
    ours, right = normalise(answer).split(), normalise(reference).split()
    if not ours or not right:
        return float(ours == right)
    shared = sum((Counter(ours) & Counter(right)).values())
    return 2 * shared / (len(ours) + len(right))


def normalise(text: str) -> str:
    """SQuAD's: small letters, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def numeric_match(answer: str, reference: str) -> float:
    """1 where the last number of the answer is that of the reference, as GSM8K's answers are read."""
    found, right = last_number(answer), last_number(reference)
    return float(found is not None and right is not None and abs(found - right) <= 1e-6 * max(1, abs(right)))


def last_number(text: str) -> float | None:
    """The number behind `####` if there is one, else the last; commas and currency do not count."""
    marked = text.rpartition("####")[2]
    found = _NUMBER.findall(marked) or _NUMBER.findall(text)
    return float(re.sub(r"[,$€£]", "", found[-1])) if found else None


def _bleu_sums(answer: str, references: Sequence[str]) -> list[float]:
    score = _bleu().sentence_score(answer, list(references))
    return [float(each) for each in (score.sys_len, score.ref_len, *score.counts, *score.totals)]


def _chrf_sums(answer: str, reference: str) -> list[float]:
    """For each order the n-grams of the answer, of the reference, and how many they share; no white space."""
    ours, right = "".join(answer.split()), "".join(reference.split())
    sums: list[float] = []
    for order in range(1, CHRF_ORDER + 1):
        mine, theirs = (
            Counter(text[at : at + order] for at in range(len(text) - order + 1)) for text in (ours, right)
        )
        # where the reference has none of an order, the answer's do not count either, as in sacrebleu
        sums += [mine.total() if theirs else 0, theirs.total(), (mine & theirs).total()]
    return sums


def _chrf_of(sums: list[float]) -> float:
    import numpy as np

    from heliostat.evaluation.metrics import chrf

    return float(chrf(np.array(sums)))


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)


@lru_cache(maxsize=3)
def _rouge(metric: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([metric], use_stemmer=False)
