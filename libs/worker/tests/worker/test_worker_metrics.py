"""Metrics under vLLM's names, from a worker that served something."""

import asyncio
import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker.testing.processes import WorkerProcess, connected, simulated_worker_process


async def scrape(worker: WorkerProcess) -> dict[tuple[str, str | None], Sample]:
    port = (await worker.wait_for("serving metrics"))["port"]
    with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    samples = [sample for family in families for sample in family.samples]
    return {(s.name, s.labels.get("finished_reason") or s.labels.get("le")): s for s in samples}


async def test_served_requests_are_counted() -> None:
    async with simulated_worker_process(metrics_listen="127.0.0.1:0", model="m", sim_itl_s=0.001) as worker:
        async with connected(worker) as stubs:
            prompt = "hello " * 10
            for n in (1, 1, 3):
                request = pb.GenerateRequest(text=prompt, stop=pb.StopConditions(max_tokens=11), n=n)
                assert [event async for event in stubs.inference.Generate(request)]
        samples = await scrape(worker)
    values = {name: sample.value for (name, detail), sample in samples.items() if detail is None}
    assert values["vllm:prompt_tokens_total"] == 3 * 60
    assert values["vllm:generation_tokens_total"] == 5 * 11
    assert values["vllm:prefix_cache_queries_total"] == 5 * 60
    assert values["vllm:prefix_cache_hits_total"] == 4 * 32
    assert values["vllm:time_to_first_token_seconds_count"] == 3
    assert values["vllm:request_time_per_output_token_seconds_count"] == 3
    assert values["vllm:e2e_request_latency_seconds_count"] == 3
    assert values["vllm:num_requests_running"] == values["vllm:num_requests_waiting"] == 0
    assert values["vllm:kv_cache_usage_perc"] == values["vllm:num_preemptions_total"] == 0
    assert samples["vllm:request_success_total", "length"].value == 5
    assert samples["vllm:request_success_total", "abort"].value == 0
    assert {s.labels["model_name"] for (name, _), s in samples.items() if name.startswith("vllm:")} == {"m"}
    assert samples["grpc_server_handled_total", None].value >= 2


async def test_each_model_has_its_own_label_also_when_it_is_unloaded() -> None:
    settings = {"metrics_listen": "127.0.0.1:0", "model": "none", "sim_models": "a:1,b:1", "sim_memory_bytes": 1}
    async with simulated_worker_process(**settings) as worker, connected(worker) as stubs:
        for model, tokens in (("a", 3), ("b", 5), ("a", 3)):
            await stubs.load(model)
            request = pb.GenerateRequest(text="hello", stop=pb.StopConditions(max_tokens=tokens))
            assert [event async for event in stubs.inference.Generate(request)]
        port = (await worker.wait_for("serving metrics"))["port"]
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics") as response:
            families = text_string_to_metric_families(response.read().decode())
        samples = [sample for family in families for sample in family.samples]
    generated = {s.labels["model_name"]: s.value for s in samples if s.name == "vllm:generation_tokens_total"}
    assert generated == {"a": 6, "b": 5}
    running = {s.labels["model_name"]: s.value for s in samples if s.name == "vllm:num_requests_running"}
    assert running == {"a": 0, "b": 0}
