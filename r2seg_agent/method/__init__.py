"""Reason-Segment-Reject: the domain's records and one round of the method as plain functions."""
