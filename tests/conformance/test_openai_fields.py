"""Fields beyond the everyday ones, on the real model through Envoy, with the unmodified openai package."""

from typing import Any

import httpx
import openai
import pytest

from tests.e2e.mesh import MODEL, Mesh

pytestmark = pytest.mark.timeout(120)

PROMPT = "The capital of France is"
QUESTION: list[Any] = [{"role": "user", "content": "Say hello."}]


def test_an_echo_with_log_probabilities_of_text_and_of_token_ids(client: openai.OpenAI, http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"model": MODEL, "prompt": PROMPT, "return_token_strs": True}).json()
    asked: dict[str, Any] = {"model": MODEL, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
    (of_text,) = client.completions.create(prompt=PROMPT, **asked).choices
    (of_ids,) = client.completions.create(prompt=ids["tokens"], **asked).choices
    assert of_text.text == of_ids.text
    assert of_text.text.startswith(PROMPT)
    scores = of_text.logprobs
    assert scores is not None
    assert scores.token_logprobs is not None
    assert scores.tokens is not None
    assert scores.top_logprobs is not None
    assert len(scores.token_logprobs) == ids["count"] + 1
    assert scores.token_logprobs[0] is None
    assert all(-30 < value <= 0 for value in scores.token_logprobs[1:])
    assert "".join(scores.tokens) == of_text.text
    assert all(token in top for token, top in zip(scores.tokens[1:], scores.top_logprobs[1:], strict=True))
    assert of_ids.logprobs is not None
    assert of_ids.logprobs.token_logprobs == scores.token_logprobs


def test_scored_prompts_beside_a_cached_prefix(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": PROMPT * 12, "max_tokens": 1, "temperature": 0}
    first = client.completions.create(**asked, extra_body={"prompt_logprobs": 0}).choices[0].model_extra
    client.completions.create(**asked)
    again = client.completions.create(**asked, extra_body={"prompt_logprobs": 0}).choices[0].model_extra
    assert first is not None
    assert again is not None
    assert first["prompt_logprobs"] == again["prompt_logprobs"]


def test_the_best_of_several(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4, "seed": 1, "logprobs": 0}
    best, second = client.completions.create(**asked, n=2, best_of=6).choices
    every = client.completions.create(**asked, n=6).choices
    sums = sorted((sum(c.logprobs.token_logprobs or ()) for c in every if c.logprobs), reverse=True)
    assert [sum(c.logprobs.token_logprobs or ()) for c in (best, second) if c.logprobs] == pytest.approx(sums[:2])


def test_timings_are_told(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4)
    timings: Any = (answer.model_extra or {})["timings"]
    assert timings["predicted_n"] == answer.usage.completion_tokens if answer.usage else False
    assert timings["predicted_per_second"] > 0
    *_, last = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4, stream=True)
    assert (last.model_extra or {})["timings"]["predicted_n"] > 0


def test_restricted_tokens(client: openai.OpenAI, http: httpx.Client) -> None:
    allowed = http.post("/tokenize", json={"model": MODEL, "prompt": " yes no", "add_special_tokens": False}).json()
    body = {"allowed_token_ids": allowed["tokens"], "return_token_ids": True}
    (choice,) = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=6, extra_body=body).choices
    assert set((choice.model_extra or {})["token_ids"]) <= set(allowed["tokens"])


def test_an_answer_that_is_continued(client: openai.OpenAI, http: httpx.Client) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": "Hello, dear"}]
    body = {"model": MODEL, "messages": messages, "continue_final_message": True}
    assert http.post("/apply-template", json=body).json()["prompt"].endswith("Hello, dear")
    answer = http.post("/v1/chat/completions", json=body | {"max_tokens": 3})
    assert answer.status_code == 200


def test_tokens_there_and_back(http: httpx.Client) -> None:
    ids = http.post("/v1/tokenize", json={"model": MODEL, "prompt": PROMPT}).json()["tokens"]
    assert http.post("/detokenize", json={"model": MODEL, "tokens": ids}).json() == {"prompt": PROMPT}
    refused = http.post("/detokenize", json={"model": MODEL, "tokens": [10**6]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tokens[0]")


def test_a_model_without_tokens_for_gaps_says_so(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json={"model": MODEL, "prompt": "a", "suffix": "b", "max_tokens": 1})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "suffix")
    assert "cannot fill in gaps" in error["message"]


def test_paths_of_other_servers(mesh: Mesh, http: httpx.Client) -> None:
    azure = openai.AzureOpenAI(
        azure_endpoint=str(http.base_url), api_key="any", api_version="2024-10-21", azure_deployment=MODEL
    )
    with azure:
        answer = azure.chat.completions.create(model="another", messages=QUESTION, max_tokens=1)
    assert answer.model == MODEL
    bare = http.post("/chat/completions", json={"model": MODEL, "messages": QUESTION, "max_tokens": 1})
    assert bare.status_code == 200
    assert http.get("/models").json()["data"][0]["id"] == MODEL
    assert http.get("/version").json()["version"]
    assert http.get("/ping").status_code == http.post("/ping").status_code == 200
    props = http.get("/props", params={"model": MODEL}).json()
    assert (props["model_path"], props["is_sleeping"]) == (MODEL, False)
    assert props["total_slots"] > 0
    assert http.get("/props", params={"model": "nobody"}).status_code == 404
    found = http.get(f"/v1/models/{MODEL}").json()
    assert found["endpoints"] == [mesh.workers[0].address]
    assert found["capabilities"]["chat_completions"] is True
