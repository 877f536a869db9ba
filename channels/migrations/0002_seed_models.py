"""The first catalogue: five models, and the providers that serve them.

Names were looked up in November 2026. Groq has retired four of the five; Llama 3.3 it still
serves to enterprise accounts (it left the free and developer tiers on 16 August 2026), and a
"model not found" from there falls through to the next route.
"""

from django.db import migrations

GROQ, OPENROUTER = "groq", "openrouter"

PROVIDERS = {
    GROQ: ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    OPENROUTER: ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
}

# model id, name, context window, max output, tokens a second, best for, routes in order
MODELS = [
    (
        "llama-3.3-70b-versatile", "Llama 3.3 70B", 131_072, 8_192, 180,
        "General purpose, reasoning",
        [(GROQ, "llama-3.3-70b-versatile"), (OPENROUTER, "meta-llama/llama-3.3-70b-instruct")],
    ),
    (
        "llama-3.1-70b-versatile", "Llama 3.1 70B", 131_072, 8_192, 150,
        "Complex tasks, code generation",
        [(OPENROUTER, "meta-llama/llama-3.1-70b-instruct")],
    ),
    (
        "llama-3.2-90b-vision-preview", "Llama 3.2 90B", 131_072, 8_192, 100,
        "Large context tasks",
        [(OPENROUTER, "meta-llama/llama-3.2-90b-vision-instruct")],
    ),
    (
        "mixtral-8x7b-32768", "Mixtral 8x7B", 32_768, 32_768, 200,
        "Fast responses, coding",
        [(OPENROUTER, "mistralai/mixtral-8x7b-instruct")],
    ),
    (
        "gemma2-9b-it", "Gemma 2 9B", 8_192, 4_096, 250,
        "Lightweight, fast tasks",
        [(OPENROUTER, "google/gemma-2-9b-it")],
    ),
]  # fmt: skip


def seed(apps, schema_editor):
    provider_model = apps.get_model("channels", "Provider")
    language_model = apps.get_model("channels", "LanguageModel")
    route_model = apps.get_model("channels", "Route")
    providers = {
        name: provider_model.objects.create(name=name, base_url=base_url, key_setting=key_setting)
        for name, (base_url, key_setting) in PROVIDERS.items()
    }
    for position, (model_id, name, window, output, speed, best_for, routes) in enumerate(MODELS):
        model = language_model.objects.create(
            model_id=model_id,
            name=name,
            context_window_tokens=window,
            max_output_tokens=output,
            speed_tps=speed,
            best_for=best_for,
            position=position,
        )
        for order, (provider, provider_name) in enumerate(routes):
            route_model.objects.create(
                model=model,
                provider=providers[provider],
                provider_model=provider_name,
                position=order,
            )


def unseed(apps, schema_editor):
    seeded = [model[0] for model in MODELS]
    apps.get_model("channels", "LanguageModel").objects.filter(model_id__in=seeded).delete()
    apps.get_model("channels", "Provider").objects.filter(name__in=PROVIDERS).delete()


class Migration(migrations.Migration):
    dependencies = [("channels", "0001_create_tables")]

    operations = [migrations.RunPython(seed, unseed)]
