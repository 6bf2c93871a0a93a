"""Activation checkpointing of the layers that train, and of no other."""

from __future__ import annotations

from functools import partial

from adapter_exp.adapters import Attached
from adapter_exp.engine.decoder import checkpoint_contexts


def checkpoint_activations(attached: Attached) -> None:
    """Keep only what enters each layer from the lowest adapter up, and run the layer again for its gradient.

    transformers' switch turns all layers and makes the embeddings' output require a gradient, so that backward and
    recomputation would cross the frozen part; non-reentrant checkpointing needs no such thing. Undone by the model's
    ``activation_checkpointing_disable``.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """
    model = attached.model
    contexts = partial(checkpoint_contexts, model)
    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    model.disable_input_require_grads()
    for layer in model.get_decoder().layers[: attached.lowest_layer() or 0]:
        for module in layer.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
