"""Planners: language models by LangChain, and the offline rules."""
