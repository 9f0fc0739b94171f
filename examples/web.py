"""A web application: users register, stock is uploaded as a file, and any client with an event's id can follow it.

    python -m examples.web

It listens on this machine only, at `PORT` (8000), and has no authentication: that is your application's business.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, EmailStr, Field
from sqlalchemy import select

from examples.register_user import AlreadyRegistered, prepare_users, register
from observability import instrument
from processors.file import FileRefused, store_upload
from processors.shared.database import Database, open_database
from processors.shared.database.tables import businesses
from processors.shared.storage import Storages, StorageSettings
from processors.shared.storage.file_writer import FileTooLarge
from streams import NotFound, Streams, StreamsError, Unavailable
from streams.inspecting import EventStatus
from streams.sql import Outbox
from streams.sql.relay import Relay
from streams.sql.tables import outbox as waiting


@dataclass(frozen=True, slots=True)
class Shop:
    """What the requests share, opened once for the application."""

    database: Database
    streams: Streams
    outbox: Outbox
    storages: Storages


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Opens it before the first request, and closes it after the last one."""
    async with open_database() as database, Streams(middleware=instrument("example-web")) as streams:
        await prepare_users(database.engine)
        application.state.shop = Shop(database, streams, Outbox(), Storages(StorageSettings.load()))
        # So that one command is enough. With several of these processes run `python -m streams.sql.relay` beside them.
        relay = Relay(database.engine, streams)
        relaying = asyncio.create_task(relay.run())
        yield
        relay.stop()
        await relaying


def the_shop(request: Request) -> Shop:
    """For the endpoints."""
    shop: Shop = request.app.state.shop
    return shop


app = FastAPI(title="Planning Bord example", lifespan=lifespan)
TheShop = Annotated[Shop, Depends(the_shop)]
EventId = Annotated[str, Path(max_length=64)]


class NewUser(BaseModel):
    """The user to register."""

    email: EmailStr
    name: str = Field(min_length=1, max_length=200)


class Accepted(BaseModel):
    """An event that will be handled; follow it."""

    event: str
    status: str
    steps: str


@app.post("/users", status_code=202)
async def register_user(user: NewUser, shop: TheShop, response: Response) -> Accepted:
    """Adds a user. The event is committed with the row, so it is published if and only if there is a user."""
    try:
        receipt = await register(shop.database.engine, shop.outbox, user.email, user.name)
    except AlreadyRegistered as error:
        raise HTTPException(409, str(error)) from None
    return accepted(receipt.id, response)


@app.put("/businesses/{business_id}/stock.csv", status_code=202)
async def upload_stock(
    business_id: Annotated[int, Path(ge=1, le=2_147_483_647)],
    request: Request,
    shop: TheShop,
    response: Response,
    name: Annotated[str, Query(max_length=255)] = "",
    email: Annotated[EmailStr | None, Query()] = None,
) -> Accepted:
    """Takes a CSV file as the body, as it arrives: it is never in memory as a whole, and what is too large is not
    read to its end. `name` is the user's name for it, `email` gets a mail with the outcome of the import.
    """
    async with shop.database.engine.connect() as connection:
        if await connection.scalar(select(businesses.c.id).where(businesses.c.id == business_id)) is None:
            raise HTTPException(404, f"there is no business {business_id}")
    try:
        event = await store_upload(request.stream(), business_id, shop.storages, name=name, user_email=email)
    except FileTooLarge as error:
        raise HTTPException(413, str(error)) from None
    except FileRefused as error:
        raise HTTPException(422, str(error)) from None
    return accepted((await shop.streams.publish(event)).id, response)


@app.get("/events/{id}")
async def event_status(id: EventId, shop: TheShop) -> dict[str, Any]:
    """Where an event is: in each group that handles it, and what followed from it."""
    for _ in range(2):  # between the two looks a relay may move it from the outbox to its stream
        with suppress(NotFound):
            return public_status(await shop.streams.event(id))
        async with shop.database.engine.connect() as connection:
            found = await connection.scalar(select(waiting.c.type).where(waiting.c.event_id == id))
        if found is not None:
            return {"id": id, "type": found, "state": "committed", "groups": [], "follow_ups": []}
    raise HTTPException(404, f"there is no event {id}")


def public_status(trail: EventStatus) -> dict[str, Any]:
    """The public part of an event's status: no errors, no data."""
    return {
        "id": trail.id,
        "type": trail.message.type if trail.message is not None else "",
        "state": "published",
        "groups": [{"group": one.group, "state": one.state, "attempts": one.attempts} for one in trail.groups],
        "follow_ups": [{"id": one.id, "type": one.type} for one in trail.follow_ups],
    }


@app.get("/events/{id}/steps")
async def event_steps(id: EventId, shop: TheShop) -> StreamingResponse:
    """The steps of an event as they come, until every group has finished it: server-sent events, for EventSource."""
    await event_status(id, shop)  # 404 while that can still be said
    return StreamingResponse(steps(shop, id), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def steps(shop: Shop, id: str) -> AsyncGenerator[bytes, None]:
    """One line of JSON for each step; the last line marks the end, because EventSource would connect again."""
    while True:
        if (await event_status(id, shop))["state"] == "published":
            break
        await asyncio.sleep(0.1)  # a relay publishes it in a moment
    async with aclosing(shop.streams.progress(id)) as progress:
        async for step in progress:
            yield b"data: " + orjson.dumps(step.as_json()) + b"\n\n"
    yield b"event: end\ndata: {}\n\n"


@app.exception_handler(StreamsError)
@app.exception_handler(Unavailable)
async def away(_: Request, error: Exception) -> JSONResponse:
    """Redis, the database or the storage is away. Trying again is safe: a user is added once, a file imported once."""
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})


def accepted(id: str, response: Response) -> Accepted:
    """202 and where to look."""
    response.headers["Location"] = f"/events/{id}"
    return Accepted(event=id, status=f"/events/{id}", steps=f"/events/{id}/steps")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
