"""The bundled video world: short clips, state pairs and long streams, made on first use.

``build.build_world`` makes it, ``build.dataset_path`` finds it.
"""
