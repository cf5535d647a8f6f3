"""The scenes that the models of the first picture learn from, and the panels of the picture."""

import numpy as np
from PIL import Image

from docs import drawn_scenes as drawn
from docs import top_picture
from keras_convnext.predictions import Prediction
from tests.backends import on_one_backend

pytestmark = on_one_backend


def test_scenes_say_what_is_drawn_on_them():
    seen = set()
    for seed in range(6):
        scene, again = drawn.draw(seed), drawn.draw(seed)
        assert np.array_equal(scene.picture, again.picture)
        assert scene.labels.shape == (drawn.HEIGHT, drawn.WIDTH)
        assert len(scene.boxes) == len(scene.kinds) > 0
        for (x1, y1, x2, y2), kind in zip(scene.boxes.astype(int), scene.kinds, strict=True):
            name = drawn.OBJECTS[kind]
            assert (scene.labels[y1:y2, x1:x2] == drawn.PIXELS.index(name)).any()
            seen.add(name)
    assert seen == set(drawn.OBJECTS)


def test_the_panels_show_the_answers():
    scene = drawn.draw(0)
    shown = scene.picture.resize(top_picture.PANEL)
    labels = np.asarray(Image.fromarray(scene.labels).resize(shown.size, Image.Resampling.NEAREST))
    answers = [Prediction(name, 1 / (n + 2), n, None) for n, name in enumerate(drawn.KINDS)]
    panels = {
        "A picture": shown,
        "classes": top_picture.classes_panel(answers),
        "a mask": top_picture.pixels_panel(shown, labels),
    }
    assert all(panel.size == top_picture.PANEL for panel in panels.values())
    assert len({panel.tobytes() for panel in panels.values()}) == 3
    assert top_picture.composed(panels).width > 2 * top_picture.PANEL[0]
