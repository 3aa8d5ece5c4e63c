"""LangGraph graphs, compiled in factories."""
