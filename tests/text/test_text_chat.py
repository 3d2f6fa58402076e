"""Chat rendering: training and serving see the same ids, and only answers are learned."""

import copy

import pytest

from heliostat.text.chat import TemplateError, check_messages, render_conversation, render_prompt


def chat(*turns: tuple[str, str]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in turns]


def call(name: str, arguments: object) -> dict:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


ASKED = chat(("user", "a"))
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
WITH_TOOLS = [
    *chat(("user", "北京天气？")),
    call("weather", {"city": "北京"}),
    *chat(("tool", "晴"), ("assistant", "Sunny.")),
]
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
        (chat(("critic", "x")), "unknown_role"),
        (chat(("tool", "x"), ("user", "a"), ("assistant", "b")), "wrong_role_order"),
        (
            [*ASKED, call("f", {}), *chat(("tool", "x"), ("tool", "y"), ("assistant", "b"), ("user", "c"))],
            None,
        ),
        ([*ASKED, call("f", {}), *chat(("tool", "x")), call("g", {})], None),
        ([*ASKED, call("f", {})], None),
        ([*ASKED, call("f", {}), *ASKED], "wrong_role_order"),
        ([*ASKED, call("f", {}), *chat(("tool", "x"), ("user", "a"))], "wrong_role_order"),
        ([*ASKED, *chat(("assistant", "b"), ("tool", "x"))], "wrong_role_order"),
        ([*ASKED, call("f", {}) | {"content": None}], "content_not_text"),
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


# Tools.


@pytest.fixture
def tool_tokenizer(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = TOOL_TEMPLATE
    return tokenizer


def test_tool_calls_are_learned_and_what_tools_say_is_read(tool_tokenizer):
    whole = render_conversation(WITH_TOOLS, tool_tokenizer, TOOLS)
    learned = [token for token, mask in zip(whole.input_ids, whole.loss_mask, strict=True) if mask]
    expected = '<call>{"name": "weather", "arguments": {"city": "北京"}}</call><|im_end|>Sunny.<|im_end|>'
    assert tool_tokenizer.decode(learned) == expected
    assert tool_tokenizer.decode(whole.input_ids).startswith('<|im_start|>system\n[{"type": "function"')


@pytest.mark.parametrize("end", [1, 3])
def test_a_prompt_with_tools_is_what_training_put_in_front_of_the_answer(tool_tokenizer, end):
    whole = render_conversation(WITH_TOOLS, tool_tokenizer, TOOLS)
    prompt = render_prompt(WITH_TOOLS[:end], tool_tokenizer, TOOLS)
    assert whole.input_ids[: len(prompt)] == prompt
    assert whole.loss_mask[len(prompt) - 1 : len(prompt) + 1] == [0, 1]


@pytest.mark.parametrize("arguments", ['{"city": "北京"}', '{"city":"\\u5317\\u4eac"}', {"city": "北京"}])
def test_arguments_render_the_same_as_values_and_as_json(tool_tokenizer, arguments):
    messages = [WITH_TOOLS[0], call("weather", arguments), *WITH_TOOLS[2:]]
    assert render_conversation(messages, tool_tokenizer, TOOLS) == render_conversation(
        WITH_TOOLS, tool_tokenizer, TOOLS
    )


def test_arguments_that_are_no_json_are_the_templates_affair(tool_tokenizer):
    messages = [WITH_TOOLS[0], call("weather", "north, 北")]
    whole = tool_tokenizer.decode(render_conversation(messages, tool_tokenizer).input_ids)
    assert '{"name": "weather", "arguments": "north, 北"}' in whole


@pytest.mark.parametrize(
    ("messages", "tools", "what"),
    [(WITH_TOOLS, [], "leaves out tool calls"), (TWO_TURNS, TOOLS, "leaves out the tools it is given")],
)
def test_a_template_that_leaves_out_tools_says_so(tiny_tokenizer, messages, tools, what):
    with pytest.raises(TemplateError, match=f"{what} \\('weather'\\)"):
        render_conversation(messages, tiny_tokenizer, tools)


def test_rendering_does_not_change_the_messages(tool_tokenizer):
    messages = [WITH_TOOLS[0], call("weather", '{"city": "北京"}')]
    before = copy.deepcopy(messages)
    render_conversation(messages, tool_tokenizer, TOOLS)
    assert messages == before
