"""Who can sit in the planner's seat: the offline rules, any chat model, the record of an earlier run."""
