"""Plays recorded shapes through LangChain's ChatOpenAI, at each of two addresses.

Prints what LangChain shows of them, which test_recorded_sdk.py reads and compares. Runs in its own
environment, which does not contain the gateway's code.
"""

from __future__ import annotations

import functools
import json
import operator
import os
from pathlib import Path
from typing import Any

import openai
from langchain_openai import ChatOpenAI


def outcome(message: Any) -> dict[str, Any]:
    usage = message.usage_metadata or {}
    return {
        "text": message.content,
        "refusal": message.additional_kwargs.get("refusal"),
        "finish_reason": message.response_metadata.get("finish_reason"),
        "tool_calls": [
            {"id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in message.tool_calls
        ],
        "usage": {
            "input": usage.get("input_tokens"),
            "output": usage.get("output_tokens"),
            "total": usage.get("total_tokens"),
            "cached": usage.get("input_token_details", {}).get("cache_read") or 0,
            "reasoning": usage.get("output_token_details", {}).get("reasoning") or 0,
        },
    }


def play(url: str, body: dict[str, Any], *, is_stream: bool) -> dict[str, Any]:
    model = ChatOpenAI(
        model=body["model"],
        base_url=url,
        api_key=os.environ["LIVE_KEY"],
        max_retries=0,
        stream_usage=True,
    )
    llm = model.bind_tools(body["tools"]) if "tools" in body else model
    question = body["messages"][0]["content"]
    try:
        if not is_stream:
            return outcome(llm.invoke(question))
        return outcome(functools.reduce(operator.add, llm.stream(question)))
    except openai.APIError as error:
        status = getattr(error, "status_code", None)
        kind = type(error).__name__
        return {"class": kind, "status": status, "code": error.code, "param": error.param}
    except Exception as error:  # noqa: BLE001  # what the client cannot read
        return {"class": type(error).__name__, "status": None}


def main() -> None:
    urls = os.environ["DIRECT_URL"], os.environ["GATEWAY_URL"]
    cases = json.loads(Path(os.environ["CASES"]).read_text())
    played = [
        [play(url, case["body"], is_stream=case["isStream"]) for url in urls] for case in cases
    ]
    print(json.dumps(played))


if __name__ == "__main__":
    main()
