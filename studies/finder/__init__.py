"""How the frozen score that ranks regions was fitted, and how far it carries on patients that it has not seen.

`cases` reads images with lesion and organ masks, `search` proposes and describes regions as a run does, `learn` fits
the score and scores every patient by fits that did not see him, `bench` prints what is hit, `fit` writes the file.
"""
