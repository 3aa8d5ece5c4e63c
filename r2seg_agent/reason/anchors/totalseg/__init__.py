"""TotalSegmentator as an anchor source, in-process, with its networks kept loaded."""
