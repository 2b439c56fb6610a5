"""The settings that all kinds of worker share. Each kind adds its own in a subclass."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from infermesh_runtime.addresses import check_listen
from infermesh_runtime.chat_templates.content import ContentFormat
from infermesh_runtime.settings import CommaList, OptionalHostPort, ServiceSettings


class WorkerSettings(ServiceSettings):
    """Settings of every worker."""

    home: Path = Field(Path("~/.infermesh"), description="Folder for everything that infermesh keeps on this machine.")
    models: Path | None = Field(
        None,
        description="Folder that contains the models, each in its own subfolder. Default: INFERMESH_HOME/models.",
    )
    manage_models: bool = Field(
        True,
        description="Whether those who may manage the mesh can import models into the models folder, and remove them. "
        "Importing needs the command `infermesh` beside the worker.",
    )
    model: str = Field(
        "",
        description="Name of the model to load at the start and keep. none: load models only when a router asks. "
        "Default: the only model there is; must be set if there are several.",
    )
    memory_bytes: ByteSize | None = Field(
        None, ge=1, description="Memory for all models together, e.g. 16GiB. Default: 90 % of the device's memory."
    )
    keep_alive_s: float = Field(
        300.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="How long a model stays loaded after its last request, in seconds. 0: until its memory is needed. "
        "The model of INFERMESH_MODEL is never unloaded for being idle.",
    )
    routers: CommaList = Field(
        (),
        description="Admin addresses (INFERMESH_ADMIN_LISTEN) of routers to register with, separated by commas: "
        "host:port, unix:PATH, or dns:///name:port for every address of a name.",
    )
    advertise: OptionalHostPort = Field(
        "",
        description="Address at which routers reach this worker, host:port. Port 0 stands for the port it listens on. "
        "Default: the address it listens on; for a wildcard address, the one that the router sees.",
    )
    verify: Literal["always", "first", "never"] = Field(
        "first",
        description="When a model's files are compared with the SHA-256s that its import recorded. always: at each "
        "load; first: at the first load, and after a file has changed; never. A model that differs is not loaded.",
    )
    max_sequences: int = Field(
        64,
        ge=1,
        le=4096,
        description="Maximum number of sequences in one batch of a model; on a GPU, 256 if it is not set.",
    )
    max_waiting: int = Field(
        64,
        ge=0,
        le=1 << 20,
        description="Maximum number of sequences that wait for each model; further requests for it are refused.",
    )
    max_batched_tokens: int = Field(
        512,
        ge=1,
        le=1 << 20,
        description="Maximum number of tokens in one engine step; on a GPU, 4096 if it is not set.",
    )
    prefix_caching: bool = Field(
        True, description="Whether prompts that begin with the same tokens share the KV cache of that beginning."
    )
    tensor_memory_bytes: ByteSize = Field(
        ByteSize(512 << 20),
        ge=1 << 20,
        le=1 << 40,
        description="Most memory for the tensors of requests on their way to a model that does not generate text, and "
        "as much for answers on their way back, e.g. 512MiB, at least 1MiB. More wait. Memory that was never needed is "
        "not taken.",
    )
    engine_timeout_s: float = Field(
        120.0,
        ge=1,
        le=86400,
        description="How long an engine process may be silent before it is restarted, in seconds. "
        "No step may take longer.",
    )
    grammar_timeout_s: float = Field(
        2.0,
        ge=0.1,
        le=60,
        description="Longest time for compiling an output format (JSON schema, regex or grammar), in seconds. "
        "A format that takes longer is refused.",
    )
    grammar_memory_bytes: ByteSize = Field(
        ByteSize(512 << 20),
        ge=16 << 20,
        description="Most memory for compiling an output format, e.g. 512MiB, at least 16MiB. "
        "A format that takes more is refused.",
    )
    grammar_cache_bytes: ByteSize = Field(
        ByteSize(64 << 20),
        ge=0,
        description="Most memory that each model keeps for compiled output formats, e.g. 64MiB. 0: only the newest "
        "format is kept.",
    )
    json_objects: Literal["closed", "open"] = Field(
        "closed",
        description="Whether the objects of a JSON schema without additionalProperties may have members that it does "
        "not list. closed: no, so that small models do not run on. open: yes, as JSON Schema says. Requests may say "
        "otherwise.",
    )
    chat_template_timeout_s: float = Field(
        2.0,
        ge=0.1,
        le=60,
        description="Longest time for rendering a conversation with a model's chat template, in seconds. "
        "A request that takes longer is refused.",
    )
    generation_config: Literal["model", "neutral"] = Field(
        "model",
        description="Where a request does not say how to sample. model: as the model's generation_config.json says. "
        "neutral: by OpenAI's defaults (temperature 1, all tokens), whatever the model says.",
    )
    chat_content_format: ContentFormat = Field(
        "auto",
        description="How chat templates get the content of a message. string: as text, several parts joined by a "
        "newline. parts: as a list of parts. auto: as parts where the template loops over them, else as text.",
    )
    special_tokens_in_messages: bool = Field(
        False,
        description="Whether special tokens that a message of a conversation writes out, such as <|im_start|>, count "
        "as such. By default they are plain text, and special tokens come from the chat template alone.",
    )
    front_timeout_s: float = Field(
        30.0,
        ge=5,
        le=86400,
        description="How long the event loop of the worker's front process may stand still before the process ends "
        "itself, in seconds. Its supervisor then starts it again.",
    )
    numerics: Literal["fast", "exact"] = Field(
        "fast",
        description="fast: the fastest computation on the device. exact: the same tokens however a sequence is batched "
        "or resumed, on CPUs only.",
    )
    speculation: Literal["auto", "off"] = Field(
        "auto",
        description="Whether to guess tokens ahead from a sequence's own text and check several in one step. auto: "
        "where measured times and rates of right guesses say that it pays. off: never. It does not change the tokens "
        "of INFERMESH_NUMERICS=exact.",
    )
    speculation_tokens: int = Field(
        8, ge=1, le=64, description="Most tokens of a sequence that one step guesses ahead, in tokens."
    )
    threads: int = Field(
        0, ge=0, le=4096, description="Number of processor threads of an engine process. 0: automatic."
    )
    kv_cache_bytes: ByteSize | None = Field(
        None,
        ge=1,
        description="Size of each model's KV cache, e.g. 2GiB. Default: chosen from the memory that is free.",
    )

    @field_validator("routers")
    @classmethod
    def _check_routers(cls, routers: tuple[str, ...]) -> tuple[str, ...]:
        for router in routers:
            check_listen(router.removeprefix("dns:///"))
        return routers

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if self.max_sequences > self.max_batched_tokens:
            raise ValueError("INFERMESH_MAX_SEQUENCES must not exceed INFERMESH_MAX_BATCHED_TOKENS")
        return self

    @property
    def models_root(self) -> Path:
        """Folder that contains the models, each in its own subfolder."""
        return (self.models or self.home / "models").expanduser()
