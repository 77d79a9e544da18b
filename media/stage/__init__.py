"""A synthetic stage: scene, three cameras, sound, encoded once and published like any other.

One scene state a moment (`scene`), three views of it (`wide`, `closeup`, `crowd`), so a cut
from one camera to another shows the same moment. Everything moves by the wall clock alone:
two processes that draw the same millisecond draw the same picture.
"""
