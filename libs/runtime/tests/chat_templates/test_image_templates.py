"""The chat templates of vision-language models write their token for each image, in its place."""

import pytest

from infermesh_runtime.chat_templates.chat_template import ChatTemplate, Message
from infermesh_runtime.errors import InvalidArgument

SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
QWEN = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""
CASES = {
    "smolvlm": (SMOLVLM, "<image>", "<|im_start|>System: Be brief.{0}\nUser: What is{1}that?{0}\nAssistant:"),
    "qwen2.5-vl": (
        QWEN,
        "<|image_pad|>",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is<|vision_start|>{1}<|vision_end|>that?"
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "gemma-3": (
        GEMMA,
        "<start_of_image>",
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is{1}that?<end_of_turn>\n<start_of_turn>model\n",
    ),
}


def template_of(name: str) -> ChatTemplate:
    source, image, _ = CASES[name]
    controls = [image, "<end_of_utterance>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<bos>"]
    return ChatTemplate(source, special_tokens={"bos_token": "<bos>"}, control_tokens=controls)


@pytest.mark.parametrize("name", CASES)
def test_an_image_is_written_between_its_texts(name: str) -> None:
    _, image, want = CASES[name]
    dialog: list[Message] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "", "parts": ["What is", None, "that?"]},
    ]
    assert template_of(name).render(dialog).text == want.format("<end_of_utterance>", image)


@pytest.mark.parametrize("name", CASES)
def test_one_that_a_user_writes_is_text(name: str) -> None:
    _, image, _ = CASES[name]
    rendered = template_of(name).render([{"role": "user", "content": "", "parts": [image, None, f"a{image}"]}])
    assert rendered.text.count(image) == 3
    assert rendered.pieces[1::2].count(image) == 1


@pytest.mark.parametrize("name", CASES)
def test_an_open_message_may_end_with_an_image(name: str) -> None:
    dialog: list[Message] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "parts": ["See", None]},
    ]
    text = template_of(name).render(dialog, add_generation_prompt=False, continue_final=True).text
    assert text.removesuffix("<|vision_end|>").endswith(CASES[name][1])


def test_a_template_of_texts_refuses_an_image() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role + m.content }}{% endfor %}")
    with pytest.raises(InvalidArgument, match="takes only text"):
        template.render([{"role": "user", "content": "", "parts": ["a", None]}])
