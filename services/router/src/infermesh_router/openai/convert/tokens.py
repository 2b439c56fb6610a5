"""Converts the bodies of /tokenize, /detokenize and /apply-template to calls. Their `extra` names their images."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.images.reading import ImageReader
from infermesh_router.openai.bodies import BodyRules, check_document, take_body
from infermesh_router.openai.conversion import AskedCall
from infermesh_router.openai.convert.messages import fill_chat
from infermesh_router.openai.convert.tools import fill_tools, read_offer
from infermesh_router.openai.parse import parse_body, parse_json
from infermesh_router.openai.schema.tokens import DetokenizeBody, TokenizeChat, TokenizeText
from infermesh_router.requests.kinds.tokens import read_detokenize, read_tokenize


def convert_tokenize(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of /tokenize. Raises InvalidArgument."""
    body = take_body(message, rules)
    if "messages" in parse_json(body):
        return convert_template(message, rules, model)
    request = parse_body(TokenizeText, body, ignore_unknown=rules.ignore_unknown, check=check_document).request
    made = pb.TokenizeRequest(
        model=model or request.model or "",
        text=request.prompt,
        add_special_tokens=request.add_special_tokens,
        return_tokens=bool(request.return_token_strs),
        device=request.device or "",
    )
    return AskedCall(read_tokenize(made.SerializeToString(), rules.bounds), (), {})


def convert_template(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body with a conversation to render. Raises InvalidArgument."""
    body = take_body(message, rules)
    request = parse_body(TokenizeChat, body, ignore_unknown=rules.ignore_unknown, check=check_document).request
    made = pb.TokenizeRequest(
        model=model or request.model or "",
        add_special_tokens=request.add_special_tokens,
        return_tokens=bool(request.return_token_strs),
        device=request.device or "",
    )
    images = ImageReader(rules.images)
    fill_chat(made.chat, request, images)
    fill_tools(made.chat, read_offer(request), request)
    call = read_tokenize(made.SerializeToString(), rules.bounds)
    return AskedCall(call, (), images.names, tuple(images.remote))


def convert_detokenize(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of /detokenize. Raises InvalidArgument."""
    body = take_body(message, rules)
    request = parse_body(DetokenizeBody, body, ignore_unknown=rules.ignore_unknown, check=check_document).request
    made = pb.DetokenizeRequest(
        model=model or request.model or "", token_ids=request.tokens, device=request.device or ""
    )
    return AskedCall(read_detokenize(made.SerializeToString(), rules.bounds), (), {})
