"""The sampling parameters that count where neither a request nor its model says any: those of OpenAI's API."""

from infermesh.inference.v1 import inference_pb2 as pb

NEUTRAL = pb.SamplingParams(
    temperature=1, top_k=0, top_p=1, min_p=0, repetition_penalty=1, presence_penalty=0, frequency_penalty=0
)
