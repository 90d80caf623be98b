"""The bundled video world: short clips, state pairs and long streams, made on first use.

``build.build_world`` makes it; ``datasets.find_dataset`` opens it.
"""
