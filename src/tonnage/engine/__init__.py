"""A loaded model: the step loop, streams, prompts, generation, embedding, and what it takes now."""
