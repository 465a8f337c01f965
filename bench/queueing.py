"""What events are measured beside: FastAPI as its manual has it. It validates an event and queues it in memory; nothing is durable."""

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

app = FastAPI()
queue: asyncio.Queue["Event"] = asyncio.Queue()


class Event(BaseModel):
    model_config = ConfigDict(extra="forbid")

    product_id: Annotated[str, Field(min_length=1, max_length=600)]
    price: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
    stock: Annotated[int, Field(ge=0)]
    event_id: str | None = None
    occurred_at: datetime | None = None


@app.post("/v1/events", status_code=202)
async def accept(event: Event) -> dict[str, str]:
    queue.put_nowait(event)
    return {"status": "accepted"}
