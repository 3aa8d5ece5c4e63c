"""How well a planner maps words to targets, anchors and sides: a fixed key of requests, a scorer, any planner."""
