"""A run as one self-contained page: opens offline, prints, follows the reader's dark or light setting."""

from r2seg_agent.trace.html.page import write_page

__all__ = ["write_page"]
