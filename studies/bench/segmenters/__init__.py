"""`make bench-segmenters`: speed and memory of the ported networks. Needs nothing but torch and numpy.

    python -m studies.bench.segmenters [--out FILE] [--only cpu cuda …]

runs as it is from a plain checkout, on a GPU machine that has no more than Python, torch and numpy.
"""
