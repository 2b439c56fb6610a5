"""Runs llama.cpp's own HTTP server until it is told to end; runs in the venv of xllamacpp, which contains it.

`python serve_llama_cpp.py MODEL.gguf NAME PORT STREAMS CONTEXT_TOKENS THREADS`
"""

import signal
import sys

import xllamacpp  # type: ignore[import-not-found]


def main(model: str, name: str, *numbers: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the server's threads inherit it, so it waits below
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias, params.ui = model, {name}, False
    params.port, params.n_parallel, context_tokens, threads = map(int, numbers)
    params.n_ctx = params.n_parallel * context_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, xllamacpp.get_system_info(), flush=True)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(*sys.argv[1:])
