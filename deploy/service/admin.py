"""Endpoints of who runs the service: new generations, one step back."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from deploy.service.activation import Activation, RefusedError
from deploy.service.bodies import Activate
from deploy.service.problems import problem


def routes(activation: Activation, writes: Any) -> APIRouter:
    """Return the endpoints. writes: the dependency that asks for the key of who writes."""
    app = APIRouter(prefix="/admin", dependencies=[writes], responses={409: {"description": "It cannot be done now."}})

    def begun(work: Any) -> JSONResponse:
        try:
            work()
        except RefusedError as error:
            return problem(409, str(error))
        return JSONResponse(activation.about(), 202)

    @app.get("/generations")
    async def generations() -> dict[str, Any]:
        """What is live, what was before, and how far a new one is: opening, encoding, comparing, live, refused or
        failed."""
        return activation.about()

    @app.post("/activate", status_code=202)
    async def activate(_: Request, body: Activate) -> JSONResponse:
        """Begin to build a generation of an export beside the live one's; it goes live unless the dev questions say
        that it is worse."""
        return begun(lambda: activation.activate(body.model, body.force))

    @app.post("/rollback", status_code=202)
    async def roll_back() -> JSONResponse:
        """Begin to go back to the generation before."""
        return begun(activation.roll_back)

    return app
