"""What a client of the Model Context Protocol finds."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from metalora.experiments.results import bundled_results, compare_rows

TOOLS = {"inspect_images", "embed", "start_run", "run_status", "stop_run", "upload_images", "compare"}


FORGED = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}


async def ask(address):
    async with streamable_http_client(address) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()

        async def said(tool, **arguments):
            name = next(one.name for one in (await session.list_tools()).tools if one.name.endswith(tool))
            return " ".join(part.text for part in (await session.call_tool(name, arguments)).content)

        result = await session.read_resource("metalora://results/primary%2Fmain")
        return {
            "of nobody": [await said("uploads"), await said("stop_run", run="x")],
            "of the web": await said("upload_images", file="http://127.0.0.1:9/a.zip"),
            "tools": {tool.name for tool in (await session.list_tools()).tools},
            "resources": {str(one.uri) for one in (await session.list_resources()).resources},
            "templates": [one.uriTemplate for one in (await session.list_resource_templates()).resourceTemplates],
            "adapters": (await session.read_resource("metalora://adapters")).contents[0].text,
            "names": (await session.read_resource("metalora://results")).contents[0].text,
            "result": result.contents[0].text,
            "prompt": (await session.get_prompt("explain_adapters", {"images": "cat.jpg"})).messages[0].content.text,
        }


def test_a_client_finds_tools_resources_and_a_prompt(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")
    process, address = serve(tmp_path / "workspace", tmp_path / "app.log")
    try:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": {"file": FORGED}}}
        forged = httpx.post(f"{address}/gradio_api/mcp/", json=body)
        with ThreadPoolExecutor(1) as thread:  # this one may have the loop of a browser test before it
            answers = thread.submit(asyncio.run, ask(f"{address}/gradio_api/mcp/")).result()
    finally:
        process.terminate()
        process.wait(30)
    assert forged.status_code == 400 and "cannot be read" in forged.json()["detail"]
    assert all("no session of its own" in said for said in answers["of nobody"])  # one serves all callers
    assert "cannot be read" in answers["of the web"]
    assert all(any(name.endswith(tool) for name in answers["tools"]) for tool in TOOLS)
    assert answers["resources"] == {"metalora://adapters", "metalora://results"}
    assert answers["templates"] == ["metalora://results/{name}"]
    assert "resnet20/metalora-tr" in json.loads(answers["adapters"])
    assert json.loads(answers["names"]) == bundled_results()
    assert json.loads(answers["result"]) == json.loads(json.dumps(compare_rows("primary/main")))
    assert "these images: cat.jpg" in answers["prompt"]
    for tool in ("inspect_images", "embed"):  # that it tells the client to call
        assert f"Call {tool}" in answers["prompt"]
