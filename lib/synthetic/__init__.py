"""The procedural video data set: a stand-in for ImageNet VID, with exact boxes, tracks and flow.

`outlines -> shapes -> sprites` draw the things, `motion` and `camera` move and photograph them, `casting` puts a random
`scene` together from a seed, `render`, `objects` and `flow` say what is seen, annotated and where it went, and `writer`
and `dataset` put it on disk as ILSVRC2015 is.
"""
