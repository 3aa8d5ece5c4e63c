"""Any model folder as a segmenter: nnU-Net results, bundles of one network, TotalSegmentator's lesion tasks."""
