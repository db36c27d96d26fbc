"""What docs/losses.md shows: its cards, as the commands in it print them, and its picture.

Each block of docs/losses.md that begins with `$ python scripts/check_loss.py` gets what that
command prints here. docs/shape_aware.png is a part of the embedded image of nuclei.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from scipy import ndimage

from seglab import files
from seglab.data.nuclei_strips import NucleiStrips
from seglab.errors import RunError
from seglab.losses.weighted import ShapeAware

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "losses.md"
PICTURE = ROOT / "docs" / "shape_aware.png"
CARD = re.compile(r"(```\n\$ python (scripts/check_loss\.py .+)\n)(?:.+\n)+(?=```)")
SIDE = 128  # pixels of the part that is shown
SCALE = 2  # dots for each of them
GAP, TITLE, BAR = 8, 34, 58  # dots between panels, above them, and for the colour bar
DOTS_PER_INCH = 150
APART = 12  # pixels; objects nearer than that get different colours
INK = "#333333"
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7")  # Okabe and Ito


def main() -> None:
    """Rewrites both files."""
    page = CARD.sub(lambda found: found[1] + printed(found[2]), PAGE.read_text(encoding="utf-8"))
    files.write_text(PAGE, page)
    loss = instantiate(OmegaConf.load(ROOT / "configs" / "loss" / "shape_aware.yaml"))
    figure = weight_figure(*part(), loss)
    figure.savefig(PICTURE, metadata={"Software": None})
    print(f"{PAGE}\n{PICTURE}")
    there = {path.stem for path in (ROOT / "configs" / "loss").glob("*.yaml")}
    if missing := sorted(there - set(listed(page))):
        print(f"not listed yet: {', '.join(missing)}")


def listed(page: str) -> list[str]:
    """The losses in the first table of the page."""
    section = page.split("## The losses that seglab has")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


def printed(command: str) -> str:
    """What a script prints. Errors: RunError where it says that the command was wrong."""
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=ROOT, capture_output=True, text=True
    )
    if done.stderr:
        raise RunError(f"python {command}: {done.stderr}")
    return done.stdout


def part() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey image, labels and instance numbers, (SIDE, SIDE) each, where the most nuclei touch."""
    nuclei = NucleiStrips(window=SIDE, stride=SIDE // 8)
    shown = max(nuclei.samples("train"), key=lambda sample: contacts(nuclei.read_instances(sample)))
    image, labels = nuclei.read_image(shown)[..., 0], nuclei.read_mask(shown)
    return image, labels, nuclei.read_instances(shown)


def contacts(instances: np.ndarray) -> int:
    """How often a pixel of an object has a neighbour, to the right or below, of another one."""
    return sum(
        int(((a > 0) & (b > 0) & (a != b)).sum())
        for a, b in (
            (instances[:, :-1], instances[:, 1:]),
            (instances[:-1], instances[1:]),
        )
    )


def weight_figure(
    image: np.ndarray, labels: np.ndarray, instances: np.ndarray, loss: ShapeAware
) -> Figure:
    """Image, instances, weights from the instances, weights from connected components.

    A pixel of the image is SCALE x SCALE dots, so that the file is small and the picture sharp.
    """
    side = SCALE * SIDE
    wide, high = 4 * (side + GAP) + BAR, side + TITLE + GAP
    figure = Figure(figsize=(wide / DOTS_PER_INCH, high / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    light = np.clip(image / np.percentile(image, 99), 0, 1) ** 0.7
    grey, heat = {"cmap": "gray"}, {"cmap": "magma", "vmin": 1, "vmax": 1 + loss.w0}
    shown = (
        ("image", light, grey),
        ("instances", painted(instances), {}),
        ("w of the instances", loss.plane(labels, instances), heat),
        ("w of connected components", loss.plane(labels), heat),
    )
    for column, (title, picture, look) in enumerate(shown):
        place = (column * (side + GAP) / wide, GAP / high, side / wide, side / high)
        panel = figure.add_axes(place)
        drawn = panel.imshow(picture, interpolation="nearest", aspect="auto", **look)
        panel.set_title(title, fontsize=8.5, color=INK, pad=4)
        panel.set_axis_off()
        if look is heat:
            for number in np.setdiff1d(instances, 0):
                panel.contour(instances == number, [0.5], colors="white", linewidths=0.5)
    place = (4 * (side + GAP) / wide, GAP / high, 12 / wide, side / high)
    bar = figure.colorbar(drawn, cax=figure.add_axes(place), ticks=np.arange(1, 2 + loss.w0, 2))
    bar.ax.tick_params(labelsize=7.5, length=2, colors=INK)
    bar.outline.set_visible(False)
    return figure


def painted(instances: np.ndarray) -> np.ndarray:
    """(H, W, 3): each object in a colour that no object near it has, on black."""
    chosen: dict[int, int] = {}
    for number in np.setdiff1d(instances, 0).tolist():
        near = ndimage.binary_dilation(instances == number, iterations=APART)
        taken = {chosen.get(other) for other in np.unique(instances[near]).tolist()}
        free = [c for c in range(len(PALETTE)) if c not in taken]
        chosen[number] = min(free, key=list(chosen.values()).count)
    picture = np.zeros((*instances.shape, 3))
    for number, colour in chosen.items():
        picture[instances == number] = colors.to_rgb(PALETTE[colour])
    return picture


if __name__ == "__main__":
    main()
