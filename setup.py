"""The packages: the library, and the trainer under a name that is no other project's."""

from setuptools import find_packages, setup

LIBRARY, TRAINER, HOME = "keras_convnext", "training", "keras_convnext_training"

setup(
    packages=[
        *find_packages(include=[LIBRARY, f"{LIBRARY}.*"]),
        *(
            HOME + name.removeprefix(TRAINER)
            for name in find_packages(include=[TRAINER, f"{TRAINER}.*"])
        ),
    ],
    package_dir={HOME: TRAINER},
)
