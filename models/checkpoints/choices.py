"""What a checkpoint's parts are chosen by; without torch, so that a wrong name costs no time."""

# Of a LLaVA's connector.
CONNECTORS = ("linear", "mlp2x_gelu")
# Of a language model's linear layers: all of them, or those that are trained alone.
PARTS = ("all", "attention", "mlp", "mlp_in")
# Which hidden state of a vision tower a LLaVA takes.
FEATURE_LAYER = -2
