"""What `infermesh compare` and the page's Compare room ask, kept here once so that both tell the same figures."""

COMPARE_PROMPTS = (
    "Explain in three sentences how a river finds its way to the sea.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "List five animals that live in the desert, and say what each of them eats.",
)
LOADING_PROMPT = "Hello."
"""Loads the model before anything is measured; unlike what is measured, so that no prefix cache answers that."""
COMPARE_MAX_TOKENS = 128
"""Longest answer, in tokens, unless the user says otherwise."""
