"""Assembles what a router offers to clients: native inference, and the REST APIs of OpenAI, Anthropic and Ollama."""

from dataclasses import replace
from functools import partial

import grpc
from prometheus_client import CollectorRegistry

from infermesh_router.access.access import Access
from infermesh_router.anthropic.models import model_handlers
from infermesh_router.anthropic.openapi import ANTHROPIC_API
from infermesh_router.anthropic.servicer import LIMITED_CALLS as LIMITED_ANTHROPIC_CALLS
from infermesh_router.anthropic.servicer import SERVICE as ANTHROPIC_SERVICE
from infermesh_router.anthropic.servicer import AnthropicServicer, anthropic_handlers
from infermesh_router.api.inference_servicer import SERVICE, InferenceServicer, inference_handlers
from infermesh_router.audio.openapi import AUDIO_ANSWERS, AUDIO_SENT
from infermesh_router.audio.schema import AUDIO_BODIES
from infermesh_router.audio.servicer import LIMITED_CALLS as LIMITED_AUDIO_CALLS
from infermesh_router.audio.servicer import AudioServicer, audio_handlers
from infermesh_router.batches.openapi import BATCH_API
from infermesh_router.batches.runner import BatchRunner
from infermesh_router.batches.servicer import LIMITED_CALLS as LIMITED_BATCH_CALLS
from infermesh_router.batches.servicer import SERVICE as BATCH_SERVICE
from infermesh_router.batches.servicer import BatchServicer, batch_handlers
from infermesh_router.config.batch_options import batch_store
from infermesh_router.config.body_options import body_rules, image_fetcher, request_bounds
from infermesh_router.config.response_options import response_store
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import Core
from infermesh_router.description.document import openapi_document
from infermesh_router.kserve.openapi import KSERVE_API
from infermesh_router.kserve_plane import LIMITED_METHODS as OPEN_INFERENCE_LIMITED_METHODS
from infermesh_router.mesh.openapi import MESH_API
from infermesh_router.ollama.asking import Asking
from infermesh_router.ollama.listing.loaded_models import LoadedModels
from infermesh_router.ollama.openapi import OLLAMA_API
from infermesh_router.ollama.servicer import LIMITED_CALLS as OLLAMA_LIMITED_CALLS
from infermesh_router.ollama.servicer import SERVICE as OLLAMA_SERVICE
from infermesh_router.ollama.servicer import OllamaServicer, ollama_handlers
from infermesh_router.openai.answerer import Answerer
from infermesh_router.openai.conversion import BodyConverter
from infermesh_router.openai.models import ModelDirectory
from infermesh_router.openai.openapi import openai_api
from infermesh_router.openai.servicer import LIMITED_CALLS, OpenAIServicer, openai_handlers
from infermesh_router.openai.servicer import SERVICE as OPENAI_SERVICE
from infermesh_router.openai.token_servicer import TokenServicer
from infermesh_router.policy.images import check_images
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.requests.reader import RequestReader
from infermesh_router.responses.keeping import Keeping
from infermesh_router.responses.schema import RESPONSE_BODIES
from infermesh_router.responses.servicer import LIMITED_CALLS as LIMITED_RESPONSES_CALLS
from infermesh_router.responses.servicer import ResponsesServicer, responses_handlers
from infermesh_router.texts.schema import OLLAMA_TEXT_BODIES, TEXT_BODIES
from infermesh_router.texts.servicer import LIMITED_CALLS as LIMITED_TEXT_CALLS
from infermesh_router.texts.servicer import LIMITED_OLLAMA_CALLS as LIMITED_OLLAMA_TEXT_CALLS
from infermesh_router.texts.servicer import TextServicer, ollama_text_handlers, text_handlers
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.limits.body_budget import BodyBudget
from infermesh_runtime.rpc.server import Server, ServerPart

LIMITED_METHODS = frozenset(
    {
        *(f"/{SERVICE}/{name}" for name in ("Generate", "Embed", "Score", "Infer", "Transcribe", "Speak")),
        *(f"/{SERVICE}/{name}" for name in ("Tokenize", "Detokenize")),
        *(f"/infermesh.openai.v1.OpenAIService/{name}" for name in (*LIMITED_CALLS, *LIMITED_RESPONSES_CALLS)),
        *(f"/{ANTHROPIC_SERVICE}/{name}" for name in LIMITED_ANTHROPIC_CALLS),
        *(f"/{BATCH_SERVICE}/{name}" for name in LIMITED_BATCH_CALLS),
        *(f"/{OLLAMA_SERVICE}/{name}" for name in OLLAMA_LIMITED_CALLS),
        *OPEN_INFERENCE_LIMITED_METHODS,
        *(f"/infermesh.openai.v1.OpenAIService/{name}" for name in (*LIMITED_TEXT_CALLS, *LIMITED_AUDIO_CALLS)),
        *(f"/{OLLAMA_SERVICE}/{name}" for name in LIMITED_OLLAMA_TEXT_CALLS),
    }
)
"""Methods whose calls count for INFERMESH_MAX_CALLS. Health, metrics and operators always get through."""
DESCRIBED_APIS = (
    openai_api({**RESPONSE_BODIES, **TEXT_BODIES, **AUDIO_BODIES}, answers=AUDIO_ANSWERS, sent=AUDIO_SENT),
    BATCH_API,
    ANTHROPIC_API,
    replace(OLLAMA_API, bodies={**OLLAMA_API.bodies, **OLLAMA_TEXT_BODIES}),
    KSERVE_API,
    MESH_API,
)
"""What /openapi.json describes: the REST APIs of all dialects."""


def add_client_plane(
    server: Server,
    settings: RouterSettings,
    core: Core,
    *,
    access: Access,
    pool: ParsingPool,
    metrics: CollectorRegistry,
    tasks: TaskSupervisor,
    bodies: BodyBudget,
) -> None:
    """Adds the services for clients: native inference, and the REST APIs of OpenAI, Anthropic and Ollama."""
    server.add_service(SERVICE, inference_handlers(make_inference(settings, core, access, pool)))
    answerer = Answerer(core.dispatcher, tell_after_s=settings.wait_comment_s)
    converter = _converter(server, settings, core, pool)
    directory = ModelDirectory(core.aliases.models, core.fleet.ready_on)
    openai = OpenAIServicer(
        answerer,
        access=access,
        make_report=core.make_report,
        registry=metrics,
        converter=converter,
        directory=directory,
        tokens=TokenServicer(core.dispatcher, access=access, converter=converter),
        describe=partial(openapi_document, DESCRIBED_APIS),
    )
    texts = TextServicer(core.dispatcher, access=access, converter=converter)
    more = _responses(server, settings, answerer, access, converter) | _audio(core, access, converter, directory)
    server.add_service(OPENAI_SERVICE, openai_handlers(openai) | model_handlers(openai) | text_handlers(texts) | more)
    anthropic = AnthropicServicer(answerer, core.dispatcher, access=access, converter=converter)
    server.add_service(ANTHROPIC_SERVICE, anthropic_handlers(anthropic))
    loaded = LoadedModels(core.fleet, aliases=core.aliases.models, tasks=tasks)
    asking = Asking(
        answerer,
        core.dispatcher,
        access=access,
        converter=converter,
        loaded=loaded,
        directory=directory,
        make_report=core.make_report,
    )
    ollama = OllamaServicer(asking, access=access, make_report=core.make_report, directory=directory, loaded=loaded)
    server.add_service(OLLAMA_SERVICE, ollama_handlers(ollama) | ollama_text_handlers(texts))
    _add_batches(server, settings, core, access=access, pool=pool, converter=converter, tasks=tasks, bodies=bodies)


def _converter(server: Server, settings: RouterSettings, core: Core, pool: ParsingPool) -> BodyConverter:
    """Converts bodies, and fetches their images until the server stops."""
    fetcher = image_fetcher(settings)
    server.add_part(ServerPart(name="images", close=fetcher.close))
    return BodyConverter(
        pool, body_rules(settings), fetcher, check=lambda call: check_images(core.fleet.snapshots, call.wanted)
    )


def _add_batches(
    server: Server,
    settings: RouterSettings,
    core: Core,
    *,
    access: Access,
    pool: ParsingPool,
    converter: BodyConverter,
    tasks: TaskSupervisor,
    bodies: BodyBudget,
) -> None:
    """Adds files and batches, which stop while the endpoints are still there."""
    store = batch_store(settings)
    runner = BatchRunner(
        store,
        core.dispatcher,
        access=access,
        converter=converter,
        tasks=tasks,
        bodies=bodies,
        at_once=settings.batches_at_once,
    )
    batches = BatchServicer(store, runner, access=access, pool=pool, rules=body_rules(settings))
    server.add_service(BATCH_SERVICE, batch_handlers(batches))
    server.add_part(ServerPart(name="batches", start=runner.start, drain=runner.stop, close=runner.close))


def _responses(
    server: Server, settings: RouterSettings, answerer: Answerer, access: Access, converter: BodyConverter
) -> dict[str, grpc.RpcMethodHandler]:
    """The calls of /v1/responses, and the store that closes with the server."""
    store = response_store(settings)
    server.add_part(ServerPart(name="responses", close=store.close))
    return responses_handlers(
        ResponsesServicer(answerer, access=access, keeping=Keeping(converter, store), store=store)
    )


def _audio(
    core: Core, access: Access, converter: BodyConverter, directory: ModelDirectory
) -> dict[str, grpc.RpcMethodHandler]:
    """The calls of /v1/audio."""
    audio = AudioServicer(
        core.dispatcher, access=access, converter=converter, directory=directory, make_report=core.make_report
    )
    return audio_handlers(audio)


def make_inference(settings: RouterSettings, core: Core, access: Access, pool: ParsingPool) -> InferenceServicer:
    """The native service of one of the router's planes."""
    return InferenceServicer(
        core.dispatcher,
        access=access,
        reader=RequestReader(pool, request_bounds(settings)),
        changes=core.fleet.changes,
        make_report=core.make_report,
    )
