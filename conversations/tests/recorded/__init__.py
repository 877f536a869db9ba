"""Recorded shapes of providers' answers, one module per family. shapes.py explains them."""

from __future__ import annotations

from conversations.tests.recorded import (
    anthropic,
    azure,
    bedrock,
    deepseek,
    gemini,
    groq,
    llama_cpp,
    mistral,
    odd,
    ollama,
    openai,
    openrouter,
    others,
    tgi,
    vllm,
    xai,
)
from conversations.tests.recorded.shapes import Shape

FAMILIES = (
    openai,
    azure,
    groq,
    openrouter,
    mistral,
    deepseek,
    gemini,
    xai,
    anthropic,
    bedrock,
    vllm,
    tgi,
    ollama,
    llama_cpp,
    odd,
    others,
)
SHAPES: dict[str, Shape] = {shape.name: shape for family in FAMILIES for shape in family.SHAPES}
