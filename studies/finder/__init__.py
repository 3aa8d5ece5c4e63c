"""How far proposals that see every kind of lesion, with a learned score, would carry: a study, no part of r2seg.

`cases` reads images with lesion and organ masks, `proposals` makes candidates from the component trees of the organ's
grey values, `features` describes them, `score` learns to rank them with patients apart, `bench` counts what is hit.
`make lesion-bench CASES=…/cases.csv` prints the tables.
"""
