"""Pictures: what colour a pixel gets, and what stands in the legend."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from seglab import ops
from seglab.figures import (
    AGREED,
    EXTRA,
    IGNORE,
    IGNORED,
    MISSED,
    STRIPE,
    WRONG,
    SampleRow,
    band_overlay,
    class_overlay,
    comparison_figure,
    error_overlay,
    sample_figure,
    samples_figure,
    save,
)

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
NAMES = ("road", "sky", "car")
IMAGE = np.full((1, 4, 3), 100, np.uint8)


def near(pixel, colour, distance=40):
    return np.abs(pixel.astype(int) - np.array(colour)).max() <= distance


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def row(target, predicted, title="a_000"):
    """A sample of a size that can be looked at, from two label maps of 2 x 2."""
    target, predicted = (np.kron(m, np.ones((20, 30), int)) for m in (target, predicted))
    image = np.random.default_rng(0).integers(0, 256, (*target.shape, 3), dtype=np.uint8)
    return SampleRow(title, image, target, predicted, target != 0, predicted != 0)


def test_ignored_is_what_the_rest_of_seglab_calls_ignored():
    assert IGNORE == ops.IGNORE


def test_a_wrong_pixel_of_a_binary_task_is_too_much_or_missed():
    target, predicted = np.array([[0, 1, 1, 255]]), np.array([[1, 0, 1, 0]])
    picture = error_overlay(IMAGE, target, predicted, 1)[0]
    assert near(picture[0], EXTRA)
    assert near(picture[1], MISSED)
    assert picture[2, 0] == picture[2, 1] == picture[2, 2]  # right: the image in grey
    assert tuple(picture[3]) in (IGNORED, STRIPE)


def test_a_wrong_pixel_of_several_classes_is_wrong():
    target, predicted = np.array([[0, 1, 2, 255]]), np.array([[1, 1, 0, 0]])
    picture = error_overlay(IMAGE, target, predicted, 3)[0]
    assert near(picture[0], WRONG)
    assert not near(picture[1], WRONG)
    assert near(picture[2], WRONG)
    assert tuple(picture[3]) in (IGNORED, STRIPE)


def test_bands_agree_or_are_in_one_alone():
    truth, ours = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    picture = band_overlay(IMAGE, np.array([[1, 1, 0, 0]]), truth, ours)[0]
    assert near(picture[0], AGREED)
    assert near(picture[1], MISSED)
    assert near(picture[2], EXTRA)
    assert picture[3, 0] == picture[3, 2]


def test_classes_tint_the_image_and_a_binary_background_does_not():
    picture = class_overlay(IMAGE, np.array([[0, 1, 2, 255]]), COLOURS)[0]
    assert [int(pixel.argmax()) for pixel in picture[:3]] == [0, 1, 2]
    assert tuple(picture[3]) in (IGNORED, STRIPE)
    binary = class_overlay(IMAGE, np.array([[0, 1, 0, 0]]), COLOURS[:1])[0]
    assert tuple(binary[0]) == (100, 100, 100)
    assert binary[1].argmax() == 0


def test_error_colours_differ_in_lightness_and_hue_from_each_other():
    colours = np.array([EXTRA, MISSED, WRONG, AGREED, IGNORED], float)
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1)[np.triu_indices(5, 1)]
    assert apart.min() > 60
    grey = colours @ [0.299, 0.587, 0.114]
    assert abs(grey[0] - grey[1]) > 60  # too much against missed, in a black-and-white print


def test_the_legend_names_the_classes_that_occur_and_no_others():
    figure = samples_figure([row([[0, 0], [0, 255]], [[0, 2], [0, 1]])], COLOURS, NAMES, "title")
    assert legend_of(figure) == [
        "road", "car", "wrong class", "truth alone", "prediction alone", "both bands", "ignored",
    ]  # fmt: skip
    figure = samples_figure([row([[0, 1], [0, 0]], [[0, 1], [1, 0]])], COLOURS[:1], ("face",), "")
    assert legend_of(figure) == ["face", "truth alone", "prediction alone", "both bands"]


def test_a_row_for_each_sample_and_five_panels_with_titles():
    rows = [row([[0, 1], [0, 2]], [[0, 1], [1, 1]], title) for title in ("first", "second")]
    figure = samples_figure(rows, COLOURS, NAMES, "a run, boundary 4 px")
    assert len(figure.axes) == 10
    headings = [axes.get_title() for axes in figure.axes[:5]]
    assert headings == ["image", "truth", "prediction", "errors", "boundary band"]
    assert [figure.axes[i].get_ylabel() for i in (0, 5)] == ["first", "second"]
    assert figure.get_suptitle() == "a run, boundary 4 px"
    assert figure.axes[5].bbox.y1 < figure.axes[0].bbox.y0
    assert figure.axes[0].bbox.x1 < figure.axes[1].bbox.x0


def test_panels_have_the_shape_of_the_pictures_and_nothing_is_cut_off():
    long = "a_name_that_is_much_too_long_for_a_panel_of_this_size_" * 3
    figure = samples_figure([row([[0, 1], [0, 2]], [[0, 1], [1, 1]], long)], COLOURS, NAMES, long)
    figure.canvas.draw()
    whole = figure.bbox
    for axes in figure.axes:
        assert axes.bbox.width / axes.bbox.height == pytest.approx(1.5)
        for text in (axes.title, axes.yaxis.label):
            box = text.get_window_extent()
            assert box.x0 >= whole.x0
            assert box.y0 >= whole.y0
            assert box.y1 <= whole.y1
    title = figure.texts[0].get_window_extent()
    assert figure.axes[0].title.get_window_extent().y1 <= title.y0
    assert title.y1 <= whole.y1
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0
    assert legend.y1 <= min(axes.bbox.y0 for axes in figure.axes)


def test_the_prediction_under_ignored_pixels_is_not_shown():
    one = row([[0, 255], [1, 1]], [[0, 2], [1, 1]])
    figure = samples_figure([one], COLOURS, NAMES, "")
    for axes in figure.axes[1:]:
        (shown,) = axes.get_images()
        assert tuple(shown.get_array()[5, 45]) in (IGNORED, STRIPE)


def test_the_background_of_a_binary_task_has_no_band():
    one = row([[0, 1], [0, 0]], [[0, 1], [0, 0]])
    everywhere = np.ones(one.target.shape, bool)
    figure = sample_figure(
        one.image, one.target, one.predicted, (everywhere, everywhere), COLOURS[:1], ("face",), ""
    )
    shown = figure.axes[4].get_images()[0].get_array()
    assert near(shown[5, 45], AGREED)
    assert not near(shown[5, 5], AGREED)
    figure = sample_figure(
        one.image, one.target, one.predicted, (everywhere, everywhere), COLOURS, NAMES, ""
    )
    assert near(figure.axes[4].get_images()[0].get_array()[5, 5], AGREED)


def test_a_comparison_shows_each_losss_errors_and_their_share():
    one = row([[0, 1], [0, 255]], [[0, 1], [1, 1]])
    figure = comparison_figure(
        one.image, one.target, {"ce": one.predicted, "dist": one.target}, COLOURS[:1], ("face",)
    )
    headings = [axes.get_title() for axes in figure.axes]
    assert headings == ["image", "truth", "ce\n33.3 % wrong", "dist\n0.0 % wrong"]
    assert near(figure.axes[2].get_images()[0].get_array()[25, 5], EXTRA)
    assert legend_of(figure) == ["face", "truth alone", "prediction alone", "ignored"]
    figure.canvas.draw()
    assert figure.axes[2].title.get_window_extent().y1 <= figure.bbox.y1


def test_a_picture_is_saved_whole_and_the_same_twice(tmp_path):
    rows = [row([[0, 1], [0, 2]], [[0, 1], [1, 1]])]
    for name in ("a", "b"):
        save(samples_figure(rows, COLOURS, NAMES, "run"), tmp_path / "figures" / f"{name}.png")
    with Image.open(tmp_path / "figures" / "a.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 300
    written = [path.read_bytes() for path in sorted((tmp_path / "figures").iterdir())]
    assert len(written) == 2
    assert written[0] == written[1]


def test_figures_load_neither_torch_nor_a_window_system():
    code = (
        "import sys, seglab.figures\n"
        "assert not {'torch', 'cv2', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
