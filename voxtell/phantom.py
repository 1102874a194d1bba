"""Draws a head and neck CT from formulas: no patient, any voxel grid, another anatomy for every seed.

Axes are (S, A, R): superior, anterior, right. Positions are in millimetres from the middle between the parotid glands;
sizes and Hounsfield units follow radiotherapy CTs. Organs that run along the body (cord, airway, esophagus) are tubes
around a curve over S, the mandible is an arch with two rami, the rest are ellipsoids and shells. A smooth warp and a
small rotation keep two phantoms from being alike. Later organs are drawn over earlier ones, from the outside to the
inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Triple = tuple[float, float, float]

STRUCTURES = ("brainstem", "spinal cord", "right parotid", "left parotid", "esophagus", "larynx", "mandible")
EXTENT_MM = (300.0, 250.0, 450.0)
"""Field of view (S, A, R) when no shape is asked for: vertex to upper chest, shoulder to shoulder."""
CENTRE_MM = (-35.0, -25.0, 0.0)
"""Position (S, A, R) of the middle of the field of view."""

TABLE_MM = np.arange(-800, 800, 0.25)
"""Heights S, in mm, at which curves are tabulated."""
NOTCH_MM = (-156.0, 3.0)
"""Height of the sternal notch, mean and deviation. Cord and esophagus are labelled down to it: a window around them
shows the notch, so that it can be seen where the labels end."""
RAMUS_MM = 54.0
"""Distance of a ramus from the middle; what lies beside it is farther out."""
REACH_MM = 35.0
"""Largest distance by which the individual shape (rotation, warp, scale) moves a point of the anatomy."""

AIR, FAT, SKIN, MUSCLE, BRAIN, CSF, LUNG = -1000.0, -95.0, 0.0, 55.0, 36.0, 6.0, -820.0
SPONGIOSA, CORTEX, SKULL = 320.0, 850.0, 950.0


@dataclass(frozen=True)
class Phantom:
    """Holds an image and its true masks.

    image: float32 HU (S, A, R). labels: structure -> bool (S, A, R). spacing: mm per voxel (S, A, R).
    """

    image: Array
    labels: dict[str, Mask]
    spacing: Triple


def head_and_neck(
    seed: int = 0, spacing: Triple = (2.5, 2.0, 2.0), shape: tuple[int, int, int] | None = None
) -> Phantom:
    """Returns the phantom of a seed on a grid of `spacing` millimetres per voxel and `shape` voxels, both (S, A, R).

    Index 0 is the lowest, most posterior, leftmost voxel; without `shape` the grid covers EXTENT_MM. The anatomy
    depends on the seed alone: another grid shows the same person.
    """
    s, a, r = shape or (round(extent / step) for extent, step in zip(EXTENT_MM, spacing, strict=True))
    drawing = _Drawing(np.random.default_rng(seed), spacing, (s, a, r))
    for draw in (_trunk, _skull, _face, _spine, _neck, _mandible, _parotids, _airway):
        draw(drawing)
    return Phantom(drawing.finished(), drawing.labels, spacing)


class _Drawing:
    """Holds the image and labels being drawn, and the position of every voxel in the frame of the standard anatomy.

    `s`, `a`, `r` are float32 (S, A, R): that position in millimetres. Random figures come from `rng` in a fixed order;
    a new draw in between would make other persons of all seeds.
    """

    def __init__(self, rng: np.random.Generator, spacing: Triple, shape: tuple[int, int, int]) -> None:
        self.rng, self.spacing = rng, spacing
        self.body_scale = rng.normal(1, 0.04, 3)
        self.turn, self.tilt = rng.normal(0, 0.04, 2)
        self.waves = rng.uniform(0, 2 * np.pi, 6)
        axes = [
            (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(step) + np.float32(middle)
            for n, step, middle in zip(shape, spacing, CENTRE_MM, strict=True)
        ]
        self.axes = axes
        self.s, self.a, self.r = self._anatomy_frame(*np.meshgrid(*axes, indexing="ij"))
        steps = (self.s - np.float32(TABLE_MM[0])) / np.float32(TABLE_MM[1] - TABLE_MM[0])
        self._height = np.clip(np.rint(steps), 0, len(TABLE_MM) - 1).astype(np.int16)
        self.image = np.full(shape, AIR, np.float32)
        self.labels = {name: np.zeros(shape, bool) for name in STRUCTURES}
        self._grain = int(rng.integers(2**31))
        self.noise = rng.uniform(6, 22)
        # What was added later draws from a second generator, so that a seed still gives the same person.
        self.aside = rng.spawn(1)[0]
        self.notch = float(self.aside.normal(*NOTCH_MM))

    def _anatomy_frame(self, s: Array, a: Array, r: Array) -> tuple[Array, Array, Array]:
        """Returns where voxels lie in the standard anatomy: undoes the person's size, rotation and shape."""
        s, a, r = (x / np.float32(k) for x, k in zip((s, a, r), self.body_scale, strict=True))
        c, t = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        a, r = c * a - t * r, t * a + c * r
        c, t = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        s, r = c * s - t * r, t * s + c * r
        w = self.waves.astype(np.float32)
        warp_s = 2.5 * np.sin(a / 37 + w[0]) + 2.0 * np.sin(r / 41 + w[1])
        warp_a = 2.5 * np.sin(s / 33 + w[2]) + 2.0 * np.sin(r / 47 + w[3])
        warp_r = 2.5 * np.sin(s / 39 + w[4]) + 2.0 * np.sin(a / 35 + w[5])
        return s + warp_s, a + warp_a, r + warp_r

    def jitter(self, centre: Sequence[float], millimetres: float = 2.0) -> list[float]:
        """Returns a centre (S, A, R) moved by a normal deviate along each axis."""
        return [float(place + self.rng.normal(0, millimetres)) for place in centre]

    def factor(self, deviation: float = 0.07) -> float:
        """Returns a factor near 1 by which this person's organ is larger or smaller, within two deviations."""
        return float(np.clip(self.rng.normal(1, deviation), 1 - 2 * deviation, 1 + 2 * deviation))

    def fill(self, inside: Mask, hounsfield: float, deviation: float = 6.0) -> Mask:
        """Paints `inside` with one density (HU) of this person, and returns `inside` to be used as a label."""
        self.image[inside] = hounsfield + self.rng.normal(0, deviation)
        return inside

    def ellipsoid(self, centre: Sequence[float], radii: Sequence[float], power: float = 2.0) -> Mask:
        """Returns the voxels inside an ellipsoid; centre and radii in mm (S, A, R). A larger `power` makes it boxier.

        Only a box around it is computed, widened by REACH_MM for what rotation and warp move.
        """
        inside = np.zeros(self.image.shape, bool)
        box = tuple(
            slice(*np.searchsorted(axis, (middle * size - radius - REACH_MM, middle * size + radius + REACH_MM)))
            for axis, middle, radius, size in zip(self.axes, centre, radii, self.body_scale, strict=True)
        )
        ball = np.zeros(inside[box].shape, np.float32)
        for frame, middle, radius in zip((self.s, self.a, self.r), centre, radii, strict=True):
            ball += np.abs((frame[box] - np.float32(middle)) / np.float32(radius)) ** np.float32(power)
        inside[box] = ball < 1
        return inside

    def curve(self, points: Sequence[tuple[float, float]]) -> Array:
        """Returns at every voxel's height a value that runs smoothly through (S, value) points."""
        ordered = np.asarray(sorted(points), float)
        table = PchipInterpolator(*ordered.T)(np.clip(TABLE_MM, ordered[0, 0], ordered[-1, 0])).astype(np.float32)
        values: Array = table[self._height]
        return values

    def tube(self, low: float, high: float, a: Array, r: Array | float, ra: Array | float, rr: Array | float) -> Mask:
        """Returns the voxels of an elliptical tube around the curve (a, r) from S = `low` to `high`, radii ra, rr."""
        inside: Mask = (self.s > low) & (self.s < high)
        return inside & (((self.a - a) / ra) ** 2 + ((self.r - r) / rr) ** 2 < 1)

    def finished(self) -> Array:
        """Returns the image in HU with the scanner's blur and noise, clipped to the 12 bits of a CT."""
        blurred = gaussian_filter(self.image, [0.8 / step for step in self.spacing])
        grain = np.random.default_rng(self._grain).standard_normal(self.image.shape, dtype=np.float32)
        scanned: Array = np.clip(blurred + np.float32(self.noise) * grain, -1024, 3071).astype(np.float32)
        return scanned


def _trunk(d: _Drawing) -> None:
    """Draws skin, fat and muscle from head to shoulders, with lungs and the bones of shoulder and breast."""
    girth = d.factor(0.06)
    width = (
        d.curve([(70, 76), (30, 78), (0, 77), (-30, 66), (-60, 66), (-85, 90), (-105, 165), (-130, 205), (-200, 215)])
        * girth
    )
    back = d.curve([(70, -97), (0, -93), (-40, -86), (-70, -97), (-110, -118), (-140, -132), (-200, -140)])
    front = d.curve([(70, 80), (20, 88), (-5, 88), (-35, 72), (-55, 44), (-75, 34), (-110, 28), (-140, 36), (-200, 50)])
    middle, depth = (front + back) / 2, (front - back) / 2
    layers = ((0.0, SKIN), (2.5, FAT), (4 + 9 * d.rng.random(), MUSCLE))
    for thickness, hounsfield in layers:
        power = d.curve([(-70, 2.2), (-120, 3.2)])
        body = np.abs(d.r / (width - thickness)) ** power + np.abs((d.a - middle) / (depth - thickness)) ** power < 1
        d.fill(body & (d.s < 72), hounsfield)
        dome = d.ellipsoid((70, -8, 0), (80 - thickness, 88 - thickness, 75 - thickness))
        d.fill(dome & (d.s >= 70), hounsfield)
    for side in (-1, 1):
        d.fill(d.ellipsoid(d.jitter((-150, -45, side * 165)), (24, 24, 24)), SPONGIOSA)
        d.fill(d.ellipsoid((-178, -38, side * 52), (44, 48, 36)), LUNG)
        clavicle = d.tube(-135, -115, d.curve([(-200, 10), (0, 10)]), side * 85.0, 7.0, 70.0)
        d.fill(clavicle & (np.abs(d.s + 125 - 0.08 * (d.r * side - 85)) < 7), CORTEX - 300)
    sternum = d.tube(-400, d.notch, d.curve([(-200, 22), (-140, 16)]), 0.0, 8.0, 30.0)
    d.image[sternum] = SPONGIOSA + d.aside.normal(0, 30)


def _skull(d: _Drawing) -> None:
    """Draws the brain in its shell, the cisterns, and the brainstem down to the foramen magnum."""
    cavities = (((75, -10, 0), (66, 80, 67)), ((38, -42, 0), (34, 42, 54)))
    shell = 6.0 * d.factor(0.15)
    for centre, radii in cavities:
        d.fill(d.ellipsoid(centre, [radius + shell for radius in radii]), SKULL, 60)
    for centre, radii in cavities:
        d.fill(d.ellipsoid(centre, radii), BRAIN)
    d.fill(d.ellipsoid((85, -10, 0), (22, 38, 14)), CSF)
    a = d.curve([(-20, -24), (8, -23), (30, -26), (66, -22)])
    thickness = d.curve([(-10, 7.5), (8, 9), (26, 15), (44, 16), (66, 12)]) * d.factor()
    d.fill(d.tube(0, 70, a, 0.0, thickness + 5, thickness + 7), CSF)
    d.labels["brainstem"] = d.fill(d.tube(8, 66, a, 0.0, thickness, thickness * 1.05), BRAIN - 4)


def _face(d: _Drawing) -> None:
    """Draws eyes, maxilla with teeth, nasal cavity and tongue."""
    d.fill(d.ellipsoid((18, 52, 0), (22, 26, 34)), SPONGIOSA + 150, 40)
    d.fill(d.ellipsoid((30, 55, 0), (20, 30, 13)), AIR, 0)
    for side in (-1, 1):
        d.fill(d.ellipsoid(d.jitter((30, 48, side * 27)), (15, 17, 12)), AIR, 0)
        d.fill(d.ellipsoid(d.jitter((62, 60, side * 32)), (14, 20, 16)), FAT)
        d.fill(d.ellipsoid((62, 64, side * 32), (12, 12, 12)), 12)
    d.fill(d.ellipsoid(d.jitter((-12, 42, 0)), (20, 34, 26)), MUSCLE + 10)


def _spine(d: _Drawing) -> None:
    """Draws vertebrae and discs around the canal, and the cord in it; the neck's flexion depends on the seed."""
    flexion = d.rng.normal(0, 5)
    axis = [
        (30, -24.0),
        (6, -22),
        (-40, -32 + flexion / 3),
        (-86, -46 + flexion),
        (-130, -62 + flexion),
        (-200, -86 + flexion),
    ]
    a = d.curve(axis)
    size = d.curve([(10, 12), (-100, 14), (-200, 18)])
    vertebra = np.mod(d.s + d.rng.uniform(0, 18), 18) < 13.5
    body = d.tube(-400, 4, a + 8 + size, 0.0, size, size * 1.1)
    d.fill(body & vertebra, SPONGIOSA, 30)
    d.fill(body & ~vertebra, 85)
    d.fill(d.tube(-400, 4, a, 0.0, 15.0, 17.0) & ~body, CORTEX - 300, 50)
    d.fill(d.tube(-400, 4, a - 26, 0.0, 16.0, 4.5) & vertebra, CORTEX - 350, 50)
    d.fill(d.tube(-400, 9, a, 0.0, 10.0, 11.5), CSF)
    radius = 6.6 * d.factor(0.06)
    d.rng.random()  # once the end of a label; drawn still, so that a seed gives the same person
    cord = d.tube(-400, 8, a, 0.0, radius * 0.95, radius * 1.05)
    d.labels["spinal cord"] = d.fill(cord, BRAIN) & (d.s > d.notch)


def _neck(d: _Drawing) -> None:
    """Draws vessels and thyroid lobes on both sides, and the hyoid in the middle."""
    a = d.curve([(40, 0), (-20, -4), (-80, -4), (-200, -14)])
    contrast = d.rng.choice([0.0, 110.0])
    for side in (-1, 1):
        d.fill(d.tube(-200, 20, a, side * 31.0, 5.0, 5.0), 45 + contrast)
        d.fill(d.tube(-200, 20, a - 6, side * 41.0, 6.5, 7.0), 45 + contrast * 0.9)
        d.fill(d.ellipsoid(d.jitter((-106, 8, side * 20)), (22, 10, 9)), 105)
    ring = d.tube(-57, -51, d.curve([(-100, 8), (0, 8)]), 0.0, 26.0, 22.0)
    d.fill(ring & ~d.tube(-57, -51, d.curve([(-100, 6), (0, 6)]), 0.0, 22.0, 17.0) & (d.a > 8), SPONGIOSA)


def _mandible(d: _Drawing) -> None:
    """Draws an arch from angle to angle through the chin with teeth on it, and on each side a ramus up to the joint."""
    chin, angle = 78 * d.factor(0.05), 50 * d.factor(0.04)
    around = np.linspace(-np.pi / 2, np.pi / 2, 25)
    arch = np.stack([6 + (chin - 6) * np.cos(around), angle * np.sin(around)])
    near = (d.s > -60) & (d.s < 50) & (d.a > -25) & (d.a < 110) & (np.abs(d.r) < 75)
    a, r, s = d.a[near], d.r[near], d.s[near]
    across = np.min([np.hypot(a - x, r - y) for x, y in arch.T], axis=0)
    middle = -16 - 12 * np.clip(a / chin, 0, 1)
    body = (across / 6.5) ** 2 + ((s - middle) / 14) ** 2
    ramus_a = 6 - 0.1 * (s - 5)
    ramus = ((np.abs(r) - angle - 0.06 * s) / 5.5) ** 2 + ((a - ramus_a) / 13) ** 4 + ((s - 5) / 30) ** 6
    bone = np.minimum(body, ramus)
    teeth = (across < 5) & (a > 25) & (s > middle + 10) & (s < middle + 20)
    whole = np.zeros(d.image.shape, bool)
    for inside, hounsfield in ((teeth, 1600.0), (bone < 1, CORTEX + 150), (bone < 0.35, SPONGIOSA)):
        part = np.zeros_like(whole)
        part[near] = inside
        d.fill(part, hounsfield, 60)
        whole |= part if hounsfield < 1600 else False
    d.labels["mandible"] = whole


def _parotids(d: _Drawing) -> None:
    """Draws a gland behind and over each ramus, never in the bone; denser than fat, less dense than muscle."""
    hounsfield = d.rng.uniform(-35, 5)
    for side, name in ((-1, "left parotid"), (1, "right parotid")):
        centre = d.jitter((-2, -2, side * 59), 1.5)
        blob = d.ellipsoid(centre, (27 * d.factor(), 20 * d.factor(), 13 * d.factor()), power=2.3)
        blob &= (np.abs(d.r) > RAMUS_MM) | (d.a < -7)
        gland = blob & ~d.labels["mandible"] & (d.image > FAT - 60) & (d.image < 250)
        d.labels[name] = d.fill(gland, hounsfield, 3)


def _airway(d: _Drawing) -> None:
    """Draws pharynx, larynx with its cartilage, trachea, and behind them the esophagus, with gas in some persons."""
    a = d.curve([(25, 38), (10, 12), (-30, 6), (-60, 8), (-95, 8), (-130, -4), (-200, -24)])
    larynx = d.jitter((-77, 9, 0), 1.0)
    radii = (18 * d.factor(0.08), 20 * d.factor(0.05), 19 * d.factor(0.05))
    box = d.ellipsoid(larynx, radii, power=3.0)
    shield = d.ellipsoid(larynx, [radius - 3.5 for radius in radii], power=3.0)
    d.fill(box, 140 + 120 * d.rng.random(), 20)
    d.fill(shield | (box & (d.a < larynx[1] - 8)), MUSCLE)
    d.labels["larynx"] = box
    slit = d.curve([(-50, 1.0), (-72, 0.75), (-78, 0.35), (-84, 0.7), (-95, 1.0)])
    d.fill(d.tube(-95, 22, a, 0.0, 8.5 * slit, 9.0 * slit), AIR, 0)
    d.fill(d.tube(-400, -94, a, 0.0, 11.5, 11.5), 90)
    d.fill(d.tube(-400, -94, a, 0.0, 9.5, 9.5), AIR, 0)
    behind = a - d.curve([(-100, 16), (-200, 19)])
    shift = d.curve([(-100, 0), (-200, -7 * d.factor(0.3))])
    size = d.factor(0.08)
    d.rng.random()  # once the end of a label; drawn still, so that a seed gives the same person
    esophagus = d.tube(-400, -97, behind, shift, 7.0 * size, 10.0 * size)
    # Only the plane of fat around it makes it visible: its wall is nearly as dense as the muscles beside it.
    plane = d.tube(-400, -95, behind, shift, 7.0 * size + 2.5, 10.0 * size + 2.5)
    d.image[plane & (np.abs(d.image - MUSCLE) < 30)] = FAT
    d.labels["esophagus"] = d.fill(esophagus, 32, 3) & (d.s > d.notch)
    if d.rng.random() < 0.5:
        d.fill(d.tube(-400, -100, behind, shift, 1.8, 3.0), AIR, 0)
