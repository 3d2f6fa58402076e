"""Chat rendering: training and serving see the same ids, and only answers are learned."""

import copy

import pytest

from heliostat.text.chat import TemplateError, check_messages, render_conversation, render_prompt


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


TWO_TURNS = chat(
    ("system", "Be brief."),
    ("user", "Hi"),
    ("assistant", "Hello."),
    ("user", "你好？"),
    ("assistant", "你好。"),
)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no_messages"),
        (chat(("user", "a"), ("assistant", "b")), None),
        (chat(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")), None),
        (chat(("user", "a")), "no_answer"),
        (chat(("system", "s")), "no_answer"),
        (chat(("assistant", "b"), ("user", "a")), "wrong_role_order"),
        (chat(("user", "a"), ("user", "b"), ("assistant", "c")), "wrong_role_order"),
        (chat(("user", "a"), ("system", "s"), ("assistant", "c")), "wrong_role_order"),
        (chat(("tool", "x")), "unknown_role"),
        ([{"content": "x"}], "unknown_role"),
        ([{"role": "user", "content": [{"type": "image"}]}], "content_not_text"),
        ([{"role": "user"}], "content_not_text"),
    ],
)
def test_what_is_no_conversation_has_a_reason(messages, reason):
    assert check_messages(messages) == reason


def test_a_prompt_is_what_training_put_in_front_of_the_answer(tiny_tokenizer):
    whole = render_conversation(TWO_TURNS, tiny_tokenizer)
    for end in (2, 4):
        prompt = render_prompt(TWO_TURNS[:end], tiny_tokenizer)
        assert whole.input_ids[: len(prompt)] == prompt
        answer = tiny_tokenizer.encode(TWO_TURNS[end]["content"] + "<|im_end|>", add_special_tokens=False)
        assert whole.input_ids[len(prompt) : len(prompt) + len(answer)] == answer
        assert whole.loss_mask[len(prompt) : len(prompt) + len(answer)] == [1] * len(answer)
        assert whole.loss_mask[len(prompt) - 1] == 0


def test_only_answers_and_the_token_that_ends_them_are_learned(tiny_tokenizer):
    whole = render_conversation(TWO_TURNS, tiny_tokenizer)
    learned = [token for token, mask in zip(whole.input_ids, whole.loss_mask, strict=True) if mask]
    assert tiny_tokenizer.decode(learned) == "Hello.<|im_end|>你好。<|im_end|>"


def test_rendering_loses_no_text(tiny_tokenizer):
    expected = tiny_tokenizer.apply_chat_template(TWO_TURNS, tokenize=False)
    assert tiny_tokenizer.decode(render_conversation(TWO_TURNS, tiny_tokenizer).input_ids) == expected


def test_a_template_that_rewrites_earlier_turns_is_refused(tiny_tokenizer):
    forgetful = copy.deepcopy(tiny_tokenizer)
    forgetful.chat_template = (
        "{% for message in messages[-2:] %}{{ message['role'] + ':' + message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(TemplateError, match="rewrites earlier turns"):
        render_conversation(TWO_TURNS, forgetful)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('no system') }}", "refuses this conversation: no system"),
    ],
)
def test_a_template_that_cannot_render_says_so(tiny_tokenizer, template, message):
    broken = copy.deepcopy(tiny_tokenizer)
    broken.chat_template = template
    with pytest.raises(TemplateError, match=message):
        render_conversation(TWO_TURNS, broken)
