"""The validity study of the Reject step: what every mode and score does to cases whose truth is known.

How to study something else with the same pieces (other tissue, other modes):

1. Make a scan, its organ and, with a lesion, the lesion's voxels: `volumes.make_scene(scanner, lesion, rng)` for
   correlated noise, or arrays of your own.
2. `search.search_case(volume, organ, truth)` runs the real pieces once (plan, segmenter, candidates, features, gates,
   MMD², paper mode) and gives a `SearchedCase`; `search.propose_regions` gives the candidate regions alone.
3. `store.searched(cells, folder)` does the same for whole `Cell`s and keeps the results on disk, so that a study that
   was broken off goes on where it was. Any picklable class with `key` and `make` is a `Cell`.
4. `levels.scored(cases, score, gates)` scores them, `levels.calibration_of` makes a real `Calibration`,
   `levels.conformal_tested` gives p-values, survivors and what they are (hits, false ones);
   `intervals` has shares, their intervals, and the bounds for tests.

`python -m studies.validity` is `make validate-fdr`; see `study.py` for what it runs.
"""
