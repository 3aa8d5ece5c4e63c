"""Who can sit in the planner's seat: language models by LangChain, and the offline rules."""
