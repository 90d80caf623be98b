"""Draws docs/images/world.png, a few clips of the bundled world as filmstrips.

python docs/make_world_picture.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from vljepa_jax.data.world.language import captions
from vljepa_jax.data.world.render import render_scene
from vljepa_jax.data.world.scene import draw_cast, draw_scene

CLIPS, FRAMES, SHOWN = 6, 16, 8


def main() -> None:
    figure, axes = plt.subplots(CLIPS, SHOWN, figsize=(SHOWN * 1.1, CLIPS * 1.35))
    for index, row in enumerate(axes):
        rng = np.random.default_rng(index)
        scene = draw_scene(rng, draw_cast(rng, unseen=False), FRAMES, fps=8)
        events = [(actor.thing, actor.motion) for actor in scene.actors]
        frames = render_scene(scene, size=128)[:: FRAMES // SHOWN]
        for axis, frame in zip(row, frames, strict=True):
            axis.imshow(frame)
            axis.axis("off")
        row[0].set_title(captions(events, rng, 1)[0], fontsize=8, loc="left")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.96, bottom=0.01, wspace=0.03)
    figure.savefig(Path(__file__).parent / "images" / "world.png", dpi=100)


if __name__ == "__main__":
    main()
