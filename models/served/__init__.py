"""Ask a served model: any OpenAI-compatible chat endpoint as a model class of lm-eval."""
