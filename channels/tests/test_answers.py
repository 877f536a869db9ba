"""Answers in every shape: a whole answer and its pieces give the same result."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from channels.errors import ProviderError
from channels.providers.answers import AnswerReader
from channels.providers.base import ChatRequest, Completion, Delta, Usage, text_of_delta
from channels.providers.faults import Sent
from channels.providers.texts import parse_json
from channels.providers.thinking import ThoughtFilter, UnopenedThoughtFilter
from channels.providers.tokens import read_usage

SENT = Sent(b"{}", "m")
TRANSPARENT = ChatRequest([], 100, is_transparent=True)
CHAT = ChatRequest([], 100, hides_thinking=True)


def read(*pieces: dict[str, Any], request: ChatRequest = TRANSPARENT) -> Completion:
    return heard(*pieces, request=request)[1]


def heard(
    *pieces: dict[str, Any], request: ChatRequest = TRANSPARENT
) -> tuple[list[Delta], Completion]:
    deltas: list[Delta] = []
    reader = AnswerReader(request, SENT, deltas.append)
    for piece in pieces:
        reader.read(parse_json(orjson.dumps(piece)))
    return deltas, reader.completion()


def whole(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": None} | message, "finish_reason": "stop"}]}


def delta(**members: Any) -> dict[str, Any]:
    return {"choices": [{"delta": members}]}


END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def call(name: str, arguments: Any = "{}", **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}} | more


# --- Content --------------------------------------------------------------------------------------

PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    {"type": "text", "text": "Hello "},
    "you",
    {"type": "reference", "reference_ids": [1]},
]


def test_text_parts_are_joined_and_thoughts_are_no_text() -> None:
    completion = read(whole(content=PARTS))
    assert completion.text == "Hello you"
    assert completion.members == {"reasoning_content": "Hm.", "content_parts": [PARTS[3]]}
    assert read(whole(content=PARTS), request=CHAT).members == {}


def test_parts_in_a_stream_are_read_alike() -> None:
    pieces = [delta(content=[part]) for part in PARTS]
    deltas, completion = heard(*pieces, END)
    assert completion == read(whole(content=PARTS))
    assert deltas == [
        {"reasoning_content": "Hm."},
        "Hello ",
        "you",
        {"content_parts": [PARTS[3]]},
    ]


def test_a_part_may_be_a_refusal_and_one_of_an_unknown_kind_is_no_text() -> None:
    refusal = {"type": "refusal", "refusal": "I cannot."}
    assert read(whole(content=[refusal])).refusal == "I cannot."
    unknown = {"type": 7, "text": "?"}
    assert read(whole(content=[unknown, {"type": "text", "text": "Hi"}])).text == "Hi"


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_parts_that_are_no_text_are_an_answer_to_who_sees_them() -> None:
    completion = read(whole(content=[IMAGE]))
    assert (completion.text, completion.members) == ("", {"content_parts": [IMAGE]})
    with pytest.raises(ProviderError, match="no_text"):
        read(whole(content=[IMAGE]), request=CHAT)
    assert read(whole(content=[IMAGE, "Hi"]), request=CHAT).text == "Hi"


def test_a_whole_message_counts_more_than_a_delta_beside_it() -> None:
    piece = whole(content="Hi")
    piece["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    reader = AnswerReader(TRANSPARENT, SENT)
    reader.read(piece, is_whole=True)
    assert reader.completion().text == "Hi"


def test_sources_beside_the_choices_are_told_once_at_the_end() -> None:
    beside = {"citations": ["https://a.example"], "search_results": [{"title": "A"}]}
    pieces = [delta(content="H") | beside, delta(content="i") | beside, END | beside]
    deltas, completion = heard(*pieces)
    assert deltas == ["H", "i", beside]
    assert completion.members == beside
    assert completion == read(whole(content="Hi") | beside)
    assert read(whole(content="Hi") | beside, request=CHAT).members == {}


def test_images_beside_the_text_are_an_answer_to_who_sees_them() -> None:
    completion = read(whole(content="", images=[IMAGE]))
    assert (completion.text, completion.members) == ("", {"images": [IMAGE]})
    assert read(whole(content="Hi", images="x")).members == {"images": "x"}


@pytest.mark.parametrize("part", ["", None, {"type": "text", "text": ""}, {"type": "thinking"}])
def test_a_part_that_says_nothing_is_none(part: Any) -> None:
    assert read(whole(content=[part, "Hi"])).members == {}
    assert read(whole(content=[part])).text == ""


@pytest.mark.parametrize(
    ("reasoning", "text"),
    [
        ({"content": "Hm."}, "Hm."),
        ({"type": "text", "text": "Hm."}, "Hm."),
        ({"summary": [{"type": "summary_text", "text": "Hm."}], "content": []}, "Hm."),
        ([{"type": "thinking", "thinking": "H"}, {"text": "m."}], "Hm."),
        (["H", "m."], "Hm."),
    ],
)
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_that_is_no_string_is_read(name: str, reasoning: Any, text: str) -> None:
    deltas, completion = heard(delta(**{name: reasoning}), delta(content="Hi"), END)
    assert deltas == [{name: text}, "Hi"]
    assert completion.members == {name: text}
    assert completion == read(whole(content="Hi", **{name: reasoning}))


@pytest.mark.parametrize("reasoning", [{"id": "r", "encrypted": "x"}, [{"a": [1]}], {"text": [7]}])
def test_reasoning_without_text_is_passed_on_untouched(reasoning: Any) -> None:
    deltas, completion = heard(delta(reasoning=reasoning), delta(content="Hi"), END)
    assert deltas == [{"reasoning": reasoning}, "Hi"]
    assert completion.members == {"reasoning": reasoning}
    assert completion.all_text == "Hi"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_keeps_its_name(name: str) -> None:
    deltas, completion = heard(delta(**{name: "Let "}), delta(**{name: "me."}), delta(content="Hi"))
    assert deltas == [{name: "Let "}, {name: "me."}, "Hi"]
    assert completion.members == {name: "Let me."}
    assert completion.all_text == "HiLet me."


def test_reasoning_is_a_beginning_that_a_chat_does_not_see() -> None:
    deltas: list[Delta] = []
    reader = AnswerReader(CHAT, SENT, deltas.append)
    reader.read(delta(role="assistant", content=""))
    begun = [reader.has_begun]
    reader.read(delta(reasoning_content="Let me see."))
    assert [*begun, reader.has_begun] == [False, True]
    reader.read(delta(content="Hi"))
    assert deltas == ["Hi"]


def test_white_space_waits_for_text() -> None:
    deltas, completion = heard(delta(content=" "), delta(content="\n"), delta(content="Hi"), END)
    assert deltas == [" \nHi"]
    assert completion == read(whole(content=" \nHi"))
    deltas, completion = heard(delta(content=" \n"), END)
    assert (deltas, completion.text) == ([" \n"], " \n")


def test_half_characters_are_put_together() -> None:
    reader = AnswerReader(TRANSPARENT, SENT)
    for text in (b"\\ud83d", b"\\ude00 \\ud83d", b"x"):
        reader.read(parse_json(b'{"choices": [{"delta": {"content": "' + text + b'"}}]}'))
    reader.read(END)
    assert reader.completion().text == "\U0001f600 �x"


def test_a_refusal_that_ends_in_half_a_character_ends_all_the_same() -> None:
    deltas: list[Delta] = []
    reader = AnswerReader(TRANSPARENT, SENT, deltas.append)
    reader.read(parse_json(b'{"choices": [{"delta": {"refusal": "No\\ud83d"}}]}'))
    reader.read(END)
    assert reader.completion().refusal == "No\ufffd"
    assert deltas == [{"refusal": "No"}, {"refusal": "\ufffd"}]


def test_lists_beside_the_text_add_up() -> None:
    first, second = [{"text": "Let "}], [{"text": "me."}]
    pieces = [delta(reasoning_details=first), delta(reasoning_details=second), delta(content="Hi")]
    deltas, completion = heard(*pieces, END)
    assert deltas == [{"reasoning_details": first}, {"reasoning_details": second}, "Hi"]
    assert completion.members == {"reasoning_details": first + second}


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["Hm.", {"a": 1}, [1], 7], "Hm."),
        ([{"a": 1}, [2], 7, {"b": 2}], {"a": 1, "b": 2}),
        ([[1], {"a": 1}, True, [2]], [1, 2]),
        ([{"a": 1}, "Hm."], "Hm."),
        (["H", {"text": "m"}, ["."], None, "", []], "Hm."),
    ],
)
def test_a_member_keeps_the_kind_it_began_as_unless_there_is_text(
    values: list[Any], kept: Any
) -> None:
    completion = read(*[delta(reasoning=value) for value in values], delta(content="Hi"), END)
    assert completion.members == {"reasoning": kept}
    assert completion.text == "Hi"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'\xef\xbb\xbf{"choices": [{"message": {"content": "Hi"}}]}', "Hi"),
        (b'{"score": NaN, "choices": [{"message": {"content": "Hi"}}]}', "Hi"),
        (b'{"choices": [{"message": {"content": "H\xff"}}]}', "H�"),
        (b'{"choices": [{"message": {"content": "H\\ud800"}}]}', "H�"),
        (b'{"error": null, "choices": [{"message": {"content": "Hi"}}]}', "Hi"),
        (b'{"choices": [{"delta": {"content": "Hi"}}]}', "Hi"),
    ],
)
def test_what_is_not_quite_json_is_read(data: bytes, text: str) -> None:
    reader = AnswerReader(TRANSPARENT, SENT)
    reader.read(parse_json(data), is_whole=True)
    assert reader.completion().text == text


def test_a_message_that_repeats_the_stream_is_not_read_twice() -> None:
    last = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    assert read(delta(content="Hi"), last).text == "Hi"
    assert read(last).text == "Hi"


@pytest.mark.parametrize(
    "piece",
    [
        {"choices": [{"message": {"content": "Half"}, "finish_reason": "error"}]},
        {"choices": [{"message": {"content": "Half"}, "error": {"code": 502, "message": "x"}}]},
        {"choices": [{"delta": {"content": "Half"}, "finish_reason": "ERROR"}]},
        {"object": "error", "message": "broke"},
        {"detail": "Internal error"},
        [{"error": {"code": 503, "message": "overloaded"}}],
    ],
)
def test_an_error_in_place_of_an_answer_is_one(piece: Any) -> None:
    reader = AnswerReader(TRANSPARENT, SENT)
    with pytest.raises(ProviderError):
        reader.read(piece)


# --- Thoughts within the text ---------------------------------------------------------------------

THOUGHTS = [
    ('<think type="x">a</think>Hi', "Hi"),
    ("<think\n>a</ think >Hi", "Hi"),
    ("<seed:think>a</seed:think>Hi", "Hi"),
    ("<thinker>Hi", "<thinker>Hi"),
    ("<think>Hm.</think>\n\nHi", "Hi"),
    ("\n<THINK>a < b</THINK>Hi <think>", "Hi <think>"),
    ("<think>a</think><think>b</think> Hi", "Hi"),
    ("<thinking>a</think>b</thinking>Hi", "Hi"),
    ("<thin ice", "<thin ice"),
    ("< think", "< think"),
    ("Use <think>.", "Use <think>."),
    ("<think>never closed", ""),
    ("<", "<"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "shown"), THOUGHTS)
def test_thoughts_are_left_out_however_they_are_cut(text: str, shown: str) -> None:
    for size in (1, 2, 5, 100):
        thoughts = ThoughtFilter()
        cut = [text[at : at + size] for at in range(0, len(text), size)]
        assert "".join(map(thoughts.take, cut)) + thoughts.flush() == shown


UNOPENED = [
    ("Hm.\n</think>\n\nHi", "Hi"),
    ("</think>Hi", "Hi"),
    ("Hm.</ THINK >Hi </think> there", "Hi </think> there"),
    ("Hm.</thought>\n<think>Hm?</think> Hi", "Hi"),
    ("Write `</think>` first.", "Write `</think>` first."),
    ("Say <think>, then </think>.", "Say <think>, then </think>."),
    ("Hm.</thin>", "Hm.</thin>"),
    ("Hm.</think>", ""),
    ("Hi", "Hi"),
]


@pytest.mark.parametrize(("text", "shown"), UNOPENED)
def test_a_thought_with_its_end_alone_is_left_out_however_it_is_cut(text: str, shown: str) -> None:
    for size in (1, 2, 5, 100):
        cut = [text[at : at + size] for at in range(0, len(text), size)]
        thoughts = UnopenedThoughtFilter()
        assert "".join(map(thoughts.take, cut)) + thoughts.flush() == shown
        pieces = [delta(content=piece) for piece in cut]
        for begins_in_thought in (False, True):
            reader = AnswerReader(CHAT, SENT, begins_in_thought=begins_in_thought)
            for piece in [*pieces, END]:
                reader.read(piece)
            completion = reader.completion()
            assert completion.text == shown
            assert completion.began_in_thought == (text != shown)


def test_thoughts_stay_for_who_sees_all() -> None:
    text = "<think>Hm.</think>Hi"
    assert read(delta(content=text), END).text == text
    assert read(delta(content=text), END, request=CHAT).text == "Hi"


# --- Tool calls -----------------------------------------------------------------------------------

A, B = call("a", '{"x":1}', id="c1"), call("b", '{"y":2}', id="c2")


@pytest.mark.parametrize(
    "pieces",
    [
        [[A, B]],
        [[A], [B]],
        [[A | {"index": 0}], [B | {"index": 0}]],
        [[A | {"index": 0}, B | {"index": 1}]],
        [[A | {"index": 3}], [B | {"index": 7}]],
        [
            [call("a", "", id="c1", index=0)],
            [call("b", '{"y"', id="c2", index=1)],
            [{"index": "0", "function": {"arguments": '{"x":1}'}}],
            [{"index": 1.0, "function": {"arguments": ":2}"}}],
        ],
        [
            [call("a", '{"x"', id="c1")],
            [{"function": {"arguments": ":1}"}}],
            [call("b", '{"y"', id="c2"), {"function": {"arguments": ":2}"}}],
        ],
        [[call("a", '{"x"', id="c1")], [call("a", ":1}", id="c1")], [B]],
        [[call("a", '{"x"', id="c1")], [call("a", ":1}")], [B]],
        [[call("a", {"x": 1}, id="c1")], [call("b", {"y": 2}, id="c2")]],
    ],
)
def test_calls_are_told_apart(pieces: list[list[dict[str, Any]]]) -> None:
    deltas, completion = heard(*[delta(tool_calls=calls) for calls in pieces], END)
    expected = (A | {"type": "function"}, B | {"type": "function"})
    assert completion.tool_calls == expected
    assert put_together(deltas) == list(expected)


def put_together(deltas: list[Delta]) -> list[dict[str, Any]]:
    """Return the calls as an OpenAI client assembles them: only by their index."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in (piece for d in deltas if isinstance(d, dict) for piece in d["tool_calls"]):
        new = {"id": "", "type": "", "function": {"name": "", "arguments": ""}}
        made = calls.setdefault(piece["index"], new)
        for name in ("id", "type"):
            made[name] = piece.get(name) or made[name]
        for name in ("name", "arguments"):
            made["function"][name] += piece["function"].get(name, "")
    return [made for _, made in sorted(calls.items())]


@pytest.mark.parametrize("more", [{}, {"id": ""}, {"id": None, "index": 0}])
def test_calls_without_an_id_get_one_each(more: dict[str, Any]) -> None:
    pieces = [delta(tool_calls=[call("f", '{"x":1}') | more])] * 2
    deltas, completion = heard(*pieces, END)
    first, second = completion.tool_calls
    assert first["id"] != second["id"]
    assert first["id"].startswith("call_")
    assert put_together(deltas) == [first, second]


def test_one_call_may_come_without_its_list() -> None:
    assert read(delta(tool_calls=A), END).tool_calls == (A | {"type": "function"},)


def test_members_of_a_call_that_nobody_knows_are_kept() -> None:
    signature = {"extra_content": {"google": {"thought_signature": "s1"}}}
    deltas, completion = heard(delta(tool_calls=[A | signature]), END)
    assert completion.tool_calls == (A | signature | {"type": "function"},)
    (piece,) = deltas
    assert isinstance(piece, dict)
    assert signature.items() <= piece["tool_calls"][0].items()


# --- Usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5}, Usage(9, 5)),
        ({"prompt_tokens": 9.0, "completion_tokens": 5.0}, Usage(9, 5)),
        ({"input_tokens": 9, "output_tokens": 5}, Usage(9, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 664, "total_tokens": 1994}, Usage(9, 1985)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 3}, Usage(9, 5)),
        ({"prompt_tokens": 9, "total_tokens": 14}, Usage(9, 5)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 5, 4, 3),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 99},
            Usage(9, 5, 9),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": None}, Usage(9, 5)),
        ({"prompt_tokens": -9, "completion_tokens": 5}, None),
        ({"prompt_tokens": 9.5, "completion_tokens": 5}, None),
        ({"prompt_tokens": float("nan"), "completion_tokens": 5}, None),
        ({"prompt_tokens": float("inf"), "completion_tokens": 5}, None),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({}, None),
    ],
)
def test_usage_is_read_wherever_it_stands(told: dict[str, Any], usage: Usage | None) -> None:
    assert read_usage(told) == usage


@pytest.mark.parametrize("place", ["top", "choice", "groq"])
def test_usage_may_come_in_other_places(place: str) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5}
    places: dict[str, dict[str, Any]] = {
        "top": {"choices": [], "usage": usage},
        "choice": {"choices": [{"delta": {}, "usage": usage}]},
        "groq": {"choices": [], "x_groq": {"usage": usage}},
    }
    assert read(delta(content="Hi"), END, places[place]).usage == Usage(9, 5)


ZEROS = {"prompt_tokens": 0, "completion_tokens": 0}


@pytest.mark.parametrize("nothing", [{}, {"prompt_tokens": None}, None, 7, ZEROS])
def test_usage_that_was_told_is_not_lost_to_one_that_tells_nothing(nothing: Any) -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 5}
    later = {"choices": [], "usage": nothing}
    assert read(delta(content="Hi"), {"usage": told} | END, later).usage == Usage(9, 5)
    beside = later | {"x_groq": {"usage": told}}
    assert read(delta(content="Hi"), END, beside).usage == Usage(9, 5)


def test_the_last_usage_counts_and_where_it_cannot_be_there_is_none() -> None:
    first, last = ({"prompt_tokens": 9, "completion_tokens": count} for count in (1, 5))
    assert read({"usage": first} | delta(content="Hi"), {"usage": last} | END).usage == Usage(9, 5)
    absurd = {"usage": {"prompt_tokens": -1, "completion_tokens": 5}}
    assert read({"usage": first} | delta(content="Hi"), absurd | END).usage is None


def test_log_probabilities_of_nothing_change_nothing() -> None:
    first = {"choices": [{"delta": {"content": "H"}, "logprobs": {"content": [{"token": "H"}]}}]}
    second = {"choices": [{"delta": {"content": "i"}, "logprobs": {"content": None}}]}
    assert read(first, second, END).logprobs == {"content": [{"token": "H"}]}


def test_log_probabilities_go_beside_their_piece_and_add_up() -> None:
    first = {"choices": [{"delta": {"content": "H"}, "logprobs": {"content": [{"token": "H"}]}}]}
    second = {"choices": [{"delta": {"content": "i"}, "logprobs": {"content": [{"token": "i"}]}}]}
    deltas, completion = heard(first, second, END)
    assert completion.logprobs == {"content": [{"token": "H"}, {"token": "i"}]}
    assert "".join(map(text_of_delta, deltas)) == "Hi"
    assert deltas[0] == {"content": "H", "logprobs": {"content": [{"token": "H"}]}}
