"""Evaluation protocols, a module each: what a benchmark needs embedded, and how it is scored.

choose     open-vocabulary classification and discriminative VQA: the candidate text nearest to
           Ŝ_Y by cosine (paper, inference; a label of several texts is the mean of theirs)
retrieve   text-to-video: Ŝ_Y of every clip ranked against the caption
match      WorldPrediction-WM: Ŝ_Y of the pair (initial, final state) against Ŝ_Y of the
           candidate clips
triplets   SugarCrepe++ and VISLA: the Y-Encoder alone, strict rule
caption    CIDEr-D of what the Y-Decoder writes from Ŝ_Y, and of the bank's text nearest to it

A protocol is a module here and a row of ``config.protocols``; nothing else names it.
"""
