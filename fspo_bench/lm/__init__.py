"""The language model: prompts, the shared-context step, training, generation."""
