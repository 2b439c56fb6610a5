"""The names that fields have in a body of /v1/responses, for errors that name them otherwise."""

CHAT_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "truncate_prompt_tokens": "truncation",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "logprobs": "top_logprobs",
}
"""A field of a chat → of a response. An index in it is dropped: messages and items are not numbered alike."""

WORKER_NAMES = {
    "chat.reasoning_effort": "reasoning.effort",
    "chat.verbosity": "text.verbosity",
    "chat.tools": "tools",
    "chat.tool_choice": "tool_choice",
    "chat.template_kwargs_json": "chat_template_kwargs",
    "chat": "input",
    "prompt_options.truncate_tokens": "truncation",
    "stop.max_tokens": "max_output_tokens",
    "logprobs": "top_logprobs",
}
"""A field path of GenerateRequest → the field of a response; the first that matches counts."""
