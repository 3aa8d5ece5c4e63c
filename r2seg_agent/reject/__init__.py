"""Reject: which candidates differ from normal tissue, by a test whose guarantee is named."""
