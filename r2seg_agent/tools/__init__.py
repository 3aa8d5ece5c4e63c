"""LangChain tools, one per file, thin over the science."""
