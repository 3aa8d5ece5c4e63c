"""Rules for English requests and dialogue: the stand-in for a language model."""
