"""The client from Python, by the bindings that UniFFI wrote. Says `ok` when all of it worked."""

import asyncio
import json
import os

from anabranch_uniffi import Client, Event, Failure


async def answer_requests_for_tokens(client):
    while (why := await client.next_token_request()) is not None:
        assert why in ("first", "expiring", "rejected"), why
        client.answer_token(os.environ["ANABRANCH_TOKEN"])


async def serve(device):
    while (request := await device.next_request()) is not None:
        assert request.name == "double"
        await device.answer(json.dumps(2 * json.loads(request.arguments)))


async def main():
    client = Client(os.environ["ANABRANCH_URL"])
    tokens = asyncio.create_task(answer_requests_for_tokens(client))
    client.connect()
    await client.wait_live(30)
    assert client.phase() == "live"

    events = client.subscribe("hello/#")
    while not isinstance(await events.next_event(), type(Event.LIVE())):
        pass
    await client.publish("hello/world", '{"n": 1}')
    event = await events.next_event()
    assert (event.topic, event.payload) == ("hello/world", '{"n": 1}'), event
    waiting = asyncio.create_task(events.next_event())
    await asyncio.sleep(0)
    assert events.cursor() is not None
    # A future that nobody wants any more is given up, and loses nothing.
    waiting.cancel()
    await client.publish("hello/world", '{"n": 2}')
    assert (await events.next_event()).payload == '{"n": 2}'
    waiting = asyncio.create_task(events.next_event())
    await asyncio.sleep(0)
    events.close()
    assert await waiting is None

    try:
        await client.publish("no/+", "1")
        raise AssertionError("a topic with a wildcard")
    except Failure.Never as failure:
        assert "wildcard" in str(failure) or "concrete" in str(failure), failure

    shadow = client.shadow("d1")
    await shadow.ready()
    change = await shadow.set_desired('{"on": true}')
    assert json.loads(shadow.desired()) == {"on": True}
    await shadow.report('{"on": true}')
    assert (await change.settled(30)).startswith("Applied"), await change.settled(0)
    assert json.loads(shadow.reported()) == {"on": True}

    serving = asyncio.create_task(serve(client.serve_commands("d1")))
    await client.wait_live(30)
    job = client.commands("dev").send("d1", "double", "21", 30)
    assert await job.reply() == "42"

    await client.close()
    await tokens
    await serving
    print("ok")


asyncio.run(asyncio.wait_for(main(), 60))
