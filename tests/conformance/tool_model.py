"""Makes models that call tools and reason of the default model: the same weights, another chat template.

`python -m tests.conformance.tool_model SOURCE TARGET` makes one that calls tools.
"""

import sys
from pathlib import Path

import msgspec

from infermesh_runtime.manifest.model_manifest import hash_file, read_manifest, write_manifest

TOOL_MODEL = "tools"
"""The name of the model in `tool_mesh`."""
HERMES = """\
{% if tools %}<|im_start|>system
# Tools
<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>
Call them as <tool_call>
{"name": <name>, "arguments": <arguments>}
</tool_call><|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}
{% if m.role == 'tool' %}<tool_response>
{% endif %}{{ m.content or '' }}{% for call in m.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% if m.role == 'tool' %}
</tool_response>{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
THINKING = (
    HERMES
    + """\
{% if add_generation_prompt %}{{ '<think>\\n' if enable_thinking else '<think>\\n\\n</think>\\n\\n' }}{% endif %}"""
)
"""Thinks only if it is asked to, as Qwen3 can be told."""


def make_model(source: Path, target: Path, template: str) -> None:
    """A model folder with the files of `source` and this chat template."""
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        elif not path.name.startswith("."):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    chat_template = target / "chat_template.jinja"
    chat_template.unlink()
    chat_template.write_text(template, encoding="utf-8")
    manifest = read_manifest(source)
    with chat_template.open("rb") as file:
        files = {**manifest.files, chat_template.name: hash_file(file)}
    (target / "infermesh.json").unlink()
    write_manifest(target, msgspec.structs.replace(manifest, name=target.name, files=files))


if __name__ == "__main__":
    make_model(Path(sys.argv[1]), Path(sys.argv[2]), HERMES)
