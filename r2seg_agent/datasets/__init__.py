"""Data sets as they lie on disk, read into cases: tables, folders of scans, BIDS, nnU-Net, Medical Decathlon."""
