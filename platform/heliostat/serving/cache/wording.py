"""Words and phrases that may be left out or exchanged without changing what is asked: English and Chinese.

Everything that is not here carries weight: negations, comparisons, possessives, modal verbs, prepositions of
place and direction, tenses. Words of other languages all carry weight.
"""

import re
from typing import NamedTuple

_I = re.IGNORECASE


def _listed(words: str) -> list[str]:
    return words.split()


WEIGHTLESS = frozenset(_listed("a an the of is are am do does please kindly"))
AUXILIARIES = frozenset(_listed("is are am do does"))
"""At the head of a clause they ask for yes or no, which is another question than what."""
CAPITALS_MATTER = frozenset(_listed("us it who in or am all may can no is as at on so an be he me do to"))
NAMES_OR_WORDS = frozenset(
    _listed(
        "turkey china polish march may august apple amazon java python swift rust go jordan chad "
        "bath nice reading mercury mars orange windows word excel teams chrome safari edge ring meta oracle "
        "delta mark will bill rose grace hope lima split cork mobile phoenix guinea panama"
    )
)
"""Words that with a capital are names of something else."""
_UP_TO_TWENTY = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_TENS = _listed("thirty forty fifty sixty seventy eighty ninety")
NUMBER_WORDS = {word: str(number) for number, word in enumerate(_UP_TO_TWENTY)} | {
    word: str(number) for number, word in zip(range(30, 100, 10), _TENS, strict=True)
}
ABOUT_WORDS = frozenset(
    _listed(
        "translate translation say spell spelling pronounce word words letter letters sentence character "
        "characters grammar grammatical correct proofread rewrite rephrase paraphrase reword repeat echo "
        "copy type plural singular synonym synonyms antonym antonyms rhyme rhymes anagram acronym quote "
        "phrase text count abbreviate uppercase lowercase capitalize tense conjugate"
    )
)
"""Where a question is about words, none of its own can be exchanged."""
ABOUT_WORDS_CHINESE = re.compile(
    "翻译|翻成|译成|改写|润色|语法|拼写|拼音|造句|怎么说|怎么读|重复|复述|同义|反义|[词字句]"
)

_PRONOUN = r"(?:i|we|one)"  # how do you feel is another question than how do I feel
_ASKED_NEXT = r"(?= (?:the|what|which|who|whose|where|when|why|how|howto)\b)"
OPENING = re.compile(
    r"(?:"
    r"(?:(?:hi|hello|hey)(?: there)?|please|kindly|thanks|thank you)\b"
    r"|(?:can|could|would|will) you (?:please |kindly )?(?=(?:tell|show|explain|give|list|help)\b)"
    rf"|(?:tell|show|give)(?: me| us){_ASKED_NEXT}"
    rf"|let me know{_ASKED_NEXT}"
    rf"|i (?:want|need|would like|wish) to (?:know|learn|find out|understand){_ASKED_NEXT}"
    rf"|i (?:am|was) (?:just )?wondering{_ASKED_NEXT}"
    rf"|(?:can|could|may) i (?:please )?(?:ask|know){_ASKED_NEXT}"
    rf"|do you (?:happen to )?know{_ASKED_NEXT}"
    r"|what (?:is|are)(?= (?:the|my|your|our)\b)"
    r")[\s,.!:，。！：]*",
    _I,
)
CHINESE_OPENING = re.compile(
    r"(?:你好|您好|请问|麻烦(?:你|您)?|请(?=告诉|解释|说明|介绍|列出|描述|推荐|比较|帮我|给我|分析|计算|总结)|(?:你|您)?(?:能不能|能否|可以|能)?告诉我"
    r"|(?:我)?想(?:知道|了解|问)(?:一下)?)[\s，,。！!：:]*"
)
ENDING = re.compile(
    r"(?:^|(?<=\W)|(?<=[一-鿿]))"
    r"(?:please|thanks(?: a lot| in advance)?|thank you(?: very much)?|谢谢(?:你|您)?)$",
    _I,
)
LONGEST_ENDING = 24
"""Characters behind which no ending begins."""


class Rule(NamedTuple):
    """A replacement, looked for only in texts with its sign: most texts have none of them."""

    sign: str
    pattern: re.Pattern[str]
    replacement: str


def _rules(*rules: tuple[str, str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(sign, re.compile(pattern, _I), replacement) for sign, pattern, replacement in rules)


REWORDINGS = _rules(
    ("can't", r"\bcan't\b", "can not"),
    ("cannot", r"\bcannot\b", "can not"),
    ("won't", r"\bwon't\b", "will not"),
    ("shan't", r"\bshan't\b", "shall not"),
    ("n't", r"(\w)n't\b", r"\1 not"),
    ("'s", r"\b(what|which|where|who|how|when|why|it|that|there|here|he|she)'s\b", r"\1 is"),
    ("'re", r"\b(\w+)'re\b", r"\1 are"),
    ("i'm", r"\bi'm\b", "i am"),
    ("'ll", r"\b(\w+)'ll\b", r"\1 will"),
    ("'ve", r"\b(\w+)'ve\b", r"\1 have"),
    ("'d", r"\b(i|you|he|she|we|they)'d\b", r"\1 would"),
    # France's capital: the capital of France; where there is one owner only.
    ("'s", r"^((?:(?!'s\b).)*?)\b(\w+)'s (\w+)\b(?!.*'s\b)", r"\1the \3 of \2"),
    ("'s", r"(\w)'s\b", r"\1"),
    ("a few", r"\ba few\b", "several"),
    ("a little", r"\ba little\b", "somewhat"),
    ("do", r"\bto do\b|\bdo(?=\W*$)", "perform"),
    ("how", rf"\bhow (?:(?:do|can|could|would) {_PRONOUN}|to)\b", "howto"),
    ("what", r"\bwhat(?: is| are)? (?:the |a )?(?:ways?|method|steps?|procedure) (?:to|for|of)\b", "howto"),
    ("explain to", r"\bexplain to (?:me|us)\b", "explain"),
    ("what steps", rf"\bwhat steps (?:do|can|could) {_PRONOUN} (?:take|follow) to\b", "howto"),
    ("who is", r"\bwho is (?:the )?(?:author|writer) of\b", "who wrote"),
    ("what the", r"\bwhat (the\b.*?) (?:is|are)(?=\W*$)", r"\1"),
    ("height of", r"\bwhat is (?:the )?height of\b", "how tall is"),
)
CHINESE_REWORDINGS = _rules(
    ("呢", r"呢(?=[\s。？！?!]*$)", ""),
    ("啊", r"啊(?=[\s。？！?!]*$)", ""),
    ("呀", r"呀(?=[\s。？！?!]*$)", ""),
    ("如何", r"如何", "怎么"),
    ("怎样", r"怎样(?!的)", "怎么"),
    ("哪儿", r"哪儿", "哪里"),
    ("什么地方", r"什么地方", "哪里"),
    ("为何", r"为何", "为什么"),
    ("什么是", r"^什么是([^，,。？?]+)", r"\1是什么"),
)
