"""Released lesion models by name: what there is, how it is fetched into the cache, and how it becomes a segmenter.

`entries` (the typed catalogue) → `units` (folders of an entry) → `store` (records, pinned hashes, removing) → `arrive`,
`install`, `fetch` (`r2seg models fetch`) and `network` (`--segmenter NAME`). To add a model, write an entry into
`catalogue.json`; tests/segment/catalogue/test_entries.py checks it.
"""
